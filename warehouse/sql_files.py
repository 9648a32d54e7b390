"""The texts of `warehouse/queries`: one question, one file."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def question(name: str) -> str:
    """The text of `warehouse/queries/NAME.sql`. Raises KeyError when there is none."""
    file = resources.files("warehouse") / "queries" / f"{name}.sql"
    if not _NAME.fullmatch(name) or not file.is_file():
        raise KeyError(f"no question {name!r} in warehouse/queries")
    return file.read_text(encoding="utf-8").strip().rstrip(";")
