"""Options of `wattlog produce prometheus`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from producers.meters.query_config import QueryConfig
from producers.runtime.config import ProducerConfig, without_secrets


class PrometheusConfig(ProducerConfig):
    """Options of `wattlog produce prometheus`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_PROMETHEUS_")
    name: ClassVar[str] = "prometheus"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Address of Prometheus, Thanos, Mimir or VictoriaMetrics: http://10.0.0.7:9090.",
        pattern="^(https?://.+)?$",
    )  # fmt: skip
    queries: tuple[QueryConfig, ...] = Field((), description="The meters.")
    bearer: SecretStr | None = Field(None, description="Bearer token that it requires.")
