"""Options of a plug-in, in addition to the settings.

They come from the table `[produce.NAME]` of the settings' file, or from variables WATTLOG_NAME_... (lists as JSON).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from contracts.errors import BadSetting
from contracts.settings import PRODUCERS, settings_file
from contracts.toml_file import read_toml


class ProducerConfig(BaseSettings):
    """Base of a plug-in's options. A subclass defines `name`, and `env_prefix` in its `SettingsConfigDict`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _Table(cls, settings_file())


class _Table(TomlConfigSettingsSource):
    def __init__(self, settings_cls: type[ProducerConfig], path: Path) -> None:
        self._name = settings_cls.name
        super().__init__(settings_cls, path)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        tables = read_toml(file_path).get(PRODUCERS, {})
        name = self._name
        table = tables.get(name, {}) if isinstance(tables, dict) else tables
        if not isinstance(table, dict):
            raise BadSetting(f"{PRODUCERS}.{name}", table, f"write a table: [{PRODUCERS}.{name}]")
        return table


def without_secrets(url: str) -> str:
    """Return an address that may be shown: it names sources in events and in metrics.

    Raises ValueError for an address that contains a user or a password.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("leave user and password out of the address: it is shown; use `bearer`")
    return url


Config = TypeVar("Config", bound=ProducerConfig)


def load(kind: type[Config]) -> Config:
    """Load a plug-in's options. Raises BadSetting that names the option, its value and the fix."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in (PRODUCERS, kind.name, *first["loc"]))
        value = first.get("input")
        # Secrets, and texts that may be an address with a password, must not appear in the error.
        option = kind.model_fields.get(str(first["loc"][0])) if first["loc"] else None
        fix, unknown = first["msg"], first["type"] == "extra_forbidden"
        if unknown:
            fix = "no such option" + (f"; there are: {', '.join(kind.model_fields)}" if len(first["loc"]) == 1 else "")
        secret = unknown or "@" in str(value) or (option is not None and "Secret" in str(option.annotation))
        raise BadSetting(path, "(not shown)" if secret else value, fix) from None


def load_options(kind: type[ProducerConfig] | None) -> Any:
    """Return a plug-in's options, or None where it has none. Raises BadSetting like `load`."""
    return None if kind is None else load(kind)
