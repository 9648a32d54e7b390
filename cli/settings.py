"""Settings of a command, from its options, the environment and the file; and logging as they say."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.output import stderr
from contracts.errors import BadSetting
from contracts.private_folder import is_open_to_others
from contracts.settings import Settings

_OTHER_VARIABLES = frozenset({"WATTLOG_CONFIG", "WATTLOG_REQUIRE_KAFKA", "WATTLOG_SHARED_DATA"})
"""Variables that are read elsewhere: the path of the file, and two of the tests."""


def load_settings(data: Path | None = None, *, quiet: bool = False, **overrides: Any) -> Settings:
    """Load the settings: options override the environment, which overrides the file, which overrides defaults.

    `quiet` logs warnings only, unless a log level is set. Raises BadSetting that names the setting.
    """
    options = {name: value for name, value in overrides.items() if value is not None}
    if data is not None:
        options["data"] = data
    try:
        settings = Settings(**options)
    except ValidationError as error:
        raise _bad_setting(error) from None
    set_up_logging("WARNING" if quiet and "log_level" not in settings.model_fields_set else settings.log_level)
    if is_open_to_others(settings.data):
        stderr.print(f"note: other users may read {settings.data}: chmod 700", markup=False, soft_wrap=True)
    for name in _unknown_variables():
        stderr.print(f"note: {name} is not a setting; `wattlog config` lists them", markup=False, soft_wrap=True)
    return settings


def _unknown_variables() -> list[str]:
    """Return the variables named WATTLOG_... that are neither a setting nor a producer's option."""
    ours = {name for name in os.environ.keys() - _OTHER_VARIABLES if name.startswith("WATTLOG_")}
    unknown = {name for name in ours if name.removeprefix("WATTLOG_").lower() not in Settings.model_fields}
    if unknown:  # Importing the producers' options takes time: only if they may matter.
        from producers import registry

        unknown -= registry.variables()
    return sorted(unknown)


def _bad_setting(error: ValidationError) -> BadSetting:
    """Convert the first error, without its value if that may be a secret."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if not name:  # An error about several settings: its message names them, and its input would be all settings.
        name, _, fix = first["msg"].removeprefix("Value error, ").partition(": ")
        return BadSetting(name, getattr(first.get("input"), "get", lambda _: "")(name), fix)
    unknown = first["type"] == "extra_forbidden"
    fix = "there is no setting of this name; `wattlog config` lists them" if unknown else first["msg"]
    return BadSetting(name, "" if "password" in name or "key" in name else first.get("input", ""), fix)


def set_up_logging(level: str) -> None:
    """Log to stderr. Of Faust, which reports its own life at length, only errors are logged; of httpx, no requests."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("faust", "mode", "aiokafka", "streams.transport"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
