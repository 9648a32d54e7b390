"""Files of exports: whole, or not there. They are written beside their place under another name, and then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import BadInput

if TYPE_CHECKING:
    from billing.line_items import LineItem

FOCUS_FILES = frozenset({"CostAndUsage.csv", "BillingPeriod.csv", "InvoiceDetail.csv", "ContractCommitment.csv"})
_GROUP_LINES = 10_000
"""Lines of a Parquet file that are in memory at once."""


def check_folder(out: Path, force: bool) -> None:
    """Raise BadInput if there is something at `out` that an export may not replace: with `force`, another export."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput("--out", out, "it is a file: give a folder that does not exist yet")
    names = {path.name for path in out.iterdir()}
    if other := sorted(names - FOCUS_FILES):
        raise BadInput("--out", out, f"it has other files, such as {other[0]}: give a folder of its own")
    if names and not force:
        raise BadInput("--out", out, "it has an earlier export: give another folder, or --force to replace it")


def check_file(out: Path, force: bool) -> None:
    """Raise BadInput if there is something at `out` that an export may not replace."""
    if out.is_dir():
        raise BadInput("--out", out, "it is a folder: give a file")
    if out.exists() and not force:
        raise BadInput("--out", out, "it exists: give another name, or --force to replace it")


def write_folder(out: Path, files: Mapping[str, Iterable[str]], force: bool) -> None:
    """Write text files as a folder. An earlier export stays as it is until the new one is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, pieces in files.items():
            with (part / name).open("w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
        check_folder(out, force)
        if force and out.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
            out.rename(old)
            part.rename(out)
            shutil.rmtree(old)
        else:
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_parquet(out: Path, lines: Sequence[LineItem]) -> None:
    """Write lines as one Parquet file: a row of each (`billing.proof.line_record`), with types."""
    import pyarrow as pa
    from pyarrow import parquet

    out.parent.mkdir(parents=True, exist_ok=True)
    fine, money, time = pa.decimal128(38, 12), pa.decimal128(38, 3), pa.timestamp("ms", tz="UTC")
    types = {
        "quantity": fine, "price": fine, "per": fine, "exact_amount": fine, "amount": money,
        "gco2": pa.decimal128(38, 6), "line_start": time, "line_end": time, "energy_uj": pa.int64(),
        "steps": pa.list_(pa.string()),
    }  # fmt: skip
    names = list(_record(lines[0])) if lines else list(types)
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    handle, name = tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
    os.close(handle)
    part = Path(name)
    try:
        with parquet.ParquetWriter(part, schema) as writer:
            for start in range(0, len(lines), _GROUP_LINES):
                rows = [_record(line) for line in lines[start : start + _GROUP_LINES]]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


def _record(line: LineItem) -> dict[str, object]:
    from billing.proof import line_record

    numbers = {
        "quantity": line.quantity, "price": line.price, "per": line.per, "amount": line.amount,
        "exact_amount": line.exact, "gco2": line.gco2, "line_start": line.from_ms, "line_end": line.to_ms,
    }  # fmt: skip
    return line_record(line) | numbers
