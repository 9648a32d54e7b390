"""Source of an export: the lines of a month, its proof, and what they sum to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from billing.bills import totals
from billing.focus_source import FocusSource
from billing.invoice import Proof
from billing.line_items import LineItem

_NAMED_LINES = 10
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True)
class ExportSummary:
    """Number of lines, of those without an amount with the first of them, and totals."""

    lines: int = 0
    open_lines: int = 0
    first_open: list[LineItem] = field(default_factory=list)
    totals: dict[tuple[str, str, str], Decimal | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BillExport:
    """A month as it is exported: `source` has its lines, `proof` its state and hashes."""

    source: FocusSource
    proof: Proof
    time_zone: str

    @property
    def lines(self) -> Iterator[LineItem]:
        """Lines of the tenant that is exported, in their order."""
        return self.source.of_tenant

    @cached_property
    def summary(self) -> ExportSummary:
        """Counts and totals of the lines, read once."""
        summary = ExportSummary()

        def counted() -> Iterator[LineItem]:
            for line in self.lines:
                summary.lines += 1
                if line.amount is None:
                    summary.open_lines += 1
                    if len(summary.first_open) < _NAMED_LINES:
                        summary.first_open.append(line)
                yield line

        summary.totals = totals(counted())
        return summary

    @property
    def stem(self) -> str:
        """Name of its file without a suffix: month and closing, the hash of all lines of the month, the tenant.

        Two closings of a month have two names. `2026-09.1-0123456789ab-acme`, or of a draft `2026-09.draft`.
        """
        source = self.source
        parts = [f"{source.period}.{'draft' if source.step is None else source.step}", self.proof.lines_sha256[:12]]
        return "-".join(part for part in (*parts, file_name(source.tenant or "")) if part)


def file_name(text: str) -> str:
    """Return a text as a part of a file's name, in characters that every system takes."""
    return _NAME.sub("_", text).lstrip(".")[:100]
