"""`wattlog config`: every setting with its value and origin."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich.table import Table

from cli.options import Data, Json
from cli.output import errors_reported, print_json, stdout
from cli.settings import load_settings
from contracts.toml_file import read_toml

_PASSWORD = re.compile(r"(://[^:/?#@\s]*:)[^/?#\s]*@")
"""Password in an address."""


def config(data: Data = None, as_json: Json = False) -> None:
    """Show every setting, its value and where it comes from. Secrets stay hidden. docs/settings.md explains each."""
    with errors_reported():
        settings = load_settings(data)
        path = Path(os.environ.get("WATTLOG_CONFIG", "wattlog.toml"))
        file_names = frozenset(read_toml(path)) if path.is_file() else frozenset()
        rows = [
            {
                "setting": name,
                "value": _printable(getattr(settings, name)),
                "from": _origin(name, data, path, file_names),
                "help": field.description,
            }
            for name, field in type(settings).model_fields.items()
        ]
        if as_json:
            print_json(rows)
            return
        table = Table(box=None)
        for column in ("setting", "value", "from"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(str(row["setting"]), str(row["value"]), str(row["from"]))
        stdout().print(table)


def _origin(name: str, data: Path | None, path: Path, file_names: frozenset[str]) -> str:
    variable = f"WATTLOG_{name.upper()}"
    if variable in os.environ:  # Also for --data, which Typer reads from the variable.
        return variable
    if name == "data" and data is not None:
        return "option"
    return str(path) if name in file_names else "default"


def _printable(value: object) -> object:
    if isinstance(value, str):
        return _PASSWORD.sub(r"\1**********@", value)
    return value if isinstance(value, (int, float, str)) else "" if value is None else str(value)
