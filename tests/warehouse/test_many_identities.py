"""Queries of usage with thousands of identities and traces, over both kinds of DSN."""

from __future__ import annotations

from decimal import Decimal

import pytest

from contracts.rows import length
from tests.support.ledger_rows import HOUR, row, rows
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.sink.sink import IDS_AT_ONCE, Sink
from warehouse.usage.sessions import session
from warehouse.usage.usage_queries import usage

IDS = [(2**64 - 1 - n, n) for n in range(IDS_AT_ONCE + 100)]


def register(warehouse: Warehouse, ids: list[tuple[int, int]], **more: int) -> None:
    table = rows("usage_ids", *({"id_hi": hi, "id_lo": lo, "log_row": n, **more} for n, (hi, lo) in enumerate(ids)))
    assert warehouse.insert("usage_ids", table) == length(table)


def test_unique_rows_have_no_first_copy(warehouse: Warehouse) -> None:
    register(warehouse, IDS[:3])
    register(warehouse, IDS[:3])  # The same row again is no copy.
    assert Sink(warehouse).first_copies(IDS[:5]) == []
    assert Sink(warehouse).first_copies([]) == []


def test_the_first_of_several_copies_is_returned_for_thousands_of_identities(warehouse: Warehouse) -> None:
    register(warehouse, IDS, log_offset=7, log_ms=HOUR + 1)
    register(warehouse, IDS, log_offset=9, log_ms=HOUR)
    firsts = Sink(warehouse).first_copies(IDS)
    assert {(f["id_hi"], f["id_lo"]) for f in firsts} == set(IDS)
    assert {(f["log_ms"], f["log_id"], f["log_partition"], f["log_offset"]) for f in firsts} == {(HOUR, "log", 0, 9)}


def test_copies_other_than_the_first_are_withdrawn_for_good(warehouse: Warehouse) -> None:
    register(warehouse, IDS[:1], log_offset=7, log_ms=HOUR + 1)
    register(warehouse, IDS[:1], log_offset=9, log_ms=HOUR)
    later = row("usage", log_offset=7, meter="m", version=1, quantity=[Decimal(5)])
    warehouse.insert("usage", rows("usage", {"log_offset": 9, "meter": "m", "version": 1}))
    warehouse.insert("usage", later)
    Sink(warehouse).take_back_copies(IDS[:1], 2)
    warehouse.insert("usage", later)
    assert [r.quantity for r in usage(operator_reader(warehouse), Period(0, HOUR + 1)).rows] == [Decimal("-1.25")]


def test_a_session_may_have_thousands_of_traces(warehouse: Warehouse) -> None:
    traces = [f"{n:032x}" for n in range(3_000)]
    ids = [{"request_id": t, "trace_id": t, "session_id": "s"} for t in traces]
    calls = [
        {"trace_id": t, "meter": "tool_calls", "unit": "call", "version": 1, "log_row": n} for n, t in enumerate(traces)
    ]
    warehouse.insert("request_energy", rows("request_energy", *ids))
    warehouse.insert("usage", rows("usage", *calls))
    session_ = session(operator_reader(warehouse), "s")
    assert (session_.requests, session_.tool_calls, len(session_.steps)) == (3_000, Decimal(-3_750), 3_000)


@pytest.mark.parametrize("table", ["usage", "request_energy"])
def test_a_session_is_read_by_an_index(warehouse: Warehouse, table: str) -> None:
    (row,) = warehouse.query(
        "SELECT count() AS n FROM system.data_skipping_indices WHERE database = currentDatabase() "
        "AND table = {t:String} AND type = 'bloom_filter' AND name IN ('by_session', 'by_trace')", t=table,
    )  # fmt: skip
    assert row["n"] == 2
