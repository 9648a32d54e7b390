"""Options that several commands share, and how a command's errors reach a person."""

from __future__ import annotations

import logging
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


def load_settings(data: Path | None = None, **overrides: Any) -> Settings:
    """The settings, options over environment over file over default. Raises BadSetting that names the setting."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**({"data": data} if data is not None else {}), **given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        mend = (
            "no setting has this name; `wattlog config` lists them"
            if first["type"] == "extra_forbidden"
            else first["msg"]
        )
        shown = "" if "password" in name or "key" in name else first.get("input", "")
        raise BadSetting(name, shown, mend) from None
    set_up_logging(settings.log_level)
    return settings


def set_up_logging(level: str) -> None:
    """Logs on stderr. Faust tells much of its own life at INFO and WARNING; its errors are enough."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def errors_told() -> Iterator[None]:
    """Errors of ours as one line on stderr: exit status 1 where the books do not balance, 2 for anything else."""
    try:
        yield
    except LedgerError as error:
        err.print("[red]error:[/red] ", end="")
        err.print(str(error), soft_wrap=True, markup=False)
        raise typer.Exit(1) from None
    except WattlogError as error:
        err.print("[red]error:[/red] ", end="")
        err.print(str(error), soft_wrap=True, markup=False)
        raise typer.Exit(2) from None
