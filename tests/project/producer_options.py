"""Producers' own options, for the tests that hold documents against them."""

from __future__ import annotations

from producers.config import ProducerConfig
from producers.gateways.produce import AccessLogConfig
from producers.produce_exporter import ExporterConfig
from producers.servers.produce import ServersConfig

CONFIGS: tuple[type[ProducerConfig], ...] = (AccessLogConfig, ExporterConfig, ServersConfig)


def variables(config: type[ProducerConfig]) -> set[str]:
    """The environment variables that an option may be given by."""
    return {f"{config.model_config['env_prefix']}{name}".upper() for name in config.model_fields}
