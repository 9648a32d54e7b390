"""Options of `wattlog produce sql`."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from producers.meters.query_config import QueryConfig
from producers.runtime.config import ProducerConfig


def without_password(dsn: str) -> str:
    """Return a database's address. Raises ValueError if it has a password: the address is shown."""
    if urlsplit(dsn).password or "password=" in dsn:
        raise ValueError("leave the password out of the address: it is shown; use `password`")
    return dsn


class SqlConfig(ProducerConfig):
    """Options of `wattlog produce sql`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_SQL_")
    name: ClassVar[str] = "sql"
    dsn: Annotated[str, AfterValidator(without_password)] = Field(
        "", description="postgresql://user@host/database, or http(s)://user@host:8123/database (ClickHouse)."
    )
    password: SecretStr | None = Field(None, description="Password of its user, kept out of the address.")
    queries: tuple[QueryConfig, ...] = Field((), description="The meters.")
