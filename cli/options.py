"""Options that several commands share, and how a command's errors reach a person."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from contracts.errors import BadSetting, LedgerError, WattlogError
from contracts.settings import Settings

err = Console(stderr=True, highlight=False)
"""Logs, progress and errors: never data."""

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="WATTLOG_DATA",
        help="Folder of the embedded warehouse (default: .wattlog).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


_NO_SETTINGS = frozenset({"WATTLOG_CONFIG", "WATTLOG_REQUIRE_KAFKA", "WATTLOG_SHARED_DATA"})
"""Variables that are read elsewhere: where the file is, and two of the tests'."""


def load_settings(data: Path | None = None, *, quiet: bool = False, **overrides: Any) -> Settings:
    """The settings, options over environment over file over default. `quiet` logs warnings only, unless told otherwise.

    Raises BadSetting that names the setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if data is not None:
        given["data"] = data
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise _bad_setting(error) from None
    set_up_logging("WARNING" if quiet and "log_level" not in settings.model_fields_set else settings.log_level)
    for name in _misspelt():
        err.print(f"note: {name} is no setting; `wattlog config` lists them", markup=False, soft_wrap=True)
    return settings


def _misspelt() -> list[str]:
    """Variables that look like ours, and that nothing reads: neither a setting nor an option of a producer."""
    ours = {name for name in os.environ.keys() - _NO_SETTINGS if name.startswith("WATTLOG_")}
    unknown = {name for name in ours if name.removeprefix("WATTLOG_").lower() not in Settings.model_fields}
    if unknown:  # The producers' options are imported only then.
        from producers import registry

        unknown -= registry.variables()
    return sorted(unknown)


def _bad_setting(error: ValidationError) -> BadSetting:
    """The first thing wrong, without the value where it may be a secret."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if not name:  # About several together: the message names them, and the input would be all of them.
        name, _, mend = first["msg"].removeprefix("Value error, ").partition(": ")
        return BadSetting(name, getattr(first.get("input"), "get", lambda _: "")(name), mend)
    unknown = first["type"] == "extra_forbidden"
    mend = "no setting has this name; `wattlog config` lists them" if unknown else first["msg"]
    return BadSetting(name, "" if "password" in name or "key" in name else first.get("input", ""), mend)


def set_up_logging(level: str) -> None:
    """Logs on stderr. Faust tells much of its own life at INFO and WARNING; its errors are enough."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("faust", "mode", "aiokafka", "streams.transport"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def errors_told() -> Iterator[None]:
    """Errors of ours, and files that cannot be used, as one line on stderr. Exit status 1 where the books do not
    balance, 2 for anything else."""
    try:
        yield
    except (WattlogError, OSError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        err.print("[red]error:[/red] ", end="")
        err.print(said, soft_wrap=True, markup=False)
        raise typer.Exit(1 if isinstance(error, LedgerError) else 2) from None
