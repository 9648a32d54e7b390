"""Findings of `wattlog doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "failed"]


@dataclass(frozen=True)
class Finding:
    """Result of a check, with a hint where it failed."""

    check: str
    state: State
    says: str
    hint: str = ""
