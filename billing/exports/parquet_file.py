"""Parquet of lines: decimals as decimal128, times in UTC, `steps` as a list."""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO

from billing.exports.bill_export import BillExport
from billing.line_items import LineItem
from billing.proof import COLUMNS, line_record

_GROUP_LINES = 10_000
"""Lines of a row group, which are in memory at once."""


def write_parquet(bill: BillExport, file: BinaryIO) -> None:
    """Write lines as one Parquet file, a row of each (`billing.proof.line_record`)."""
    import pyarrow as pa
    from pyarrow import parquet

    fine, money, time = pa.decimal128(38, 12), pa.decimal128(38, 3), pa.timestamp("ms", tz="UTC")
    types = {
        "quantity": fine, "price": fine, "per": fine, "exact_amount": fine, "amount": money,
        # A month of 10,000 GPUs has more microjoules than an int64.
        "gco2": pa.decimal128(38, 6), "line_start": time, "line_end": time, "energy_uj": pa.decimal128(38, 0),
        "steps": pa.list_(pa.string()),
    }  # fmt: skip
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema) as writer:
        lines = bill.lines
        while group := list(islice(lines, _GROUP_LINES)):
            writer.write_table(pa.Table.from_pylist([_record(line) for line in group], schema=schema))


def _record(line: LineItem) -> dict[str, object]:
    numbers = {
        "quantity": line.quantity, "price": line.price, "per": line.per, "amount": line.amount,
        "exact_amount": line.exact, "gco2": line.gco2, "line_start": line.from_ms, "line_end": line.to_ms,
    }  # fmt: skip
    return line_record(line) | numbers
