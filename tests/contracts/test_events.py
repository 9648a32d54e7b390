"""Checks of batches. A case is one line: the change to a valid batch, the named field, a word of the fix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import BadEvent
from contracts.events import (
    MAX_ENERGY_UJ,
    MAX_ROWS,
    MAX_SPAN_MS,
    MAX_TIME_MS,
    MAX_TOKENS,
    Method,
    PowerBatch,
    TokenBatch,
)
from tests.contracts.batches import POWER, T0, TOKENS, USAGE, column, index

I64_MAX, I64_MIN = 2**63 - 1, -(2**63)

BAD = [
    # intervals
    (POWER, {"node": ""}, "node", "1 to 253"),
    (POWER, {"node": "n" * 254}, "node", "1 to 253"),
    (POWER, {"owner": "a\nb"}, "owner", "printable"),
    (POWER, {"owner": "__idle__"}, "owner", "Wattlog's own"),
    (POWER, {"gpus": (("", "H100"), ("GPU-1", "H100"))}, "gpus", "1 to 253"),
    (POWER, {"gpus": (("GPU-0", "H100"),)}, "gpu[1]", "index"),
    (POWER, {"gpus": (("g", "h"),) * (MAX_ROWS + 1)}, "gpus", "at most 65536"),
    (POWER, {"gpu": index(0)}, "gpu", "2 rows"),
    (POWER, {"t0_ms": column(T0, -1)}, "t0_ms[1]", "epoch milliseconds"),
    (POWER, {"t1_ms": column(T0, T0 + 1)}, "t1_ms[0]", "after t0_ms"),
    (POWER, {"t1_ms": column(T0 - 1, T0 + 1)}, "t1_ms[0]", "after t0_ms"),
    (POWER, {"t1_ms": column(T0 + 1, T0 + MAX_SPAN_MS + 1)}, "t1_ms[1]", "after t0_ms"),
    (POWER, {"t0_ms": column(T0, I64_MAX), "t1_ms": column(T0 + 1, I64_MIN)}, "t0_ms[1]", "year 9999"),  # wraps to 1 ms
    (POWER, {"t0_ms": column(T0, T0), "t1_ms": column(T0 + 1, I64_MIN)}, "t1_ms[1]", "year 9999"),
    (POWER, {"t0_ms": column(T0, MAX_TIME_MS), "t1_ms": column(T0 + 1, MAX_TIME_MS + 1)}, "t1_ms[1]", "year 9999"),
    (POWER, {"energy_uj": column(0, -1)}, "energy_uj[1]", "0 to 2^50"),
    (POWER, {"energy_uj": column(0, MAX_ENERGY_UJ + 1)}, "energy_uj[1]", "0 to 2^50"),
    (POWER, {"method": np.array([0, 3], np.uint8)}, "method[1]", "counter, integrated, estimated or correction"),
    (POWER, {"busy_ms": column(-2, 0)}, "busy_ms[0]", "-1 for unknown"),
    (POWER, {"busy_ms": column(0, 2_001)}, "busy_ms[1]", "interval's length"),
    (POWER, {"t_ms": -1}, "t_ms", "epoch milliseconds"),
    (POWER, {"t_ms": MAX_TIME_MS + 1}, "t_ms", "year 9999"),
    # requests
    (TOKENS, {"tenants": ("acme", "")}, "tenant", "1 to 253"),
    (TOKENS, {"tenants": ("acme", "__idle__")}, "tenant", "Wattlog's own"),
    (TOKENS, {"tenants": ("acme",)}, "tenant[1]", "index"),
    (TOKENS, {"tenants": ("acme",) * (MAX_ROWS + 1)}, "tenants", "at most 65536"),
    (TOKENS, {"models": ("",)}, "model", "1 to 253"),
    (TOKENS, {"model": index(0, 1)}, "model[1]", "index"),
    (TOKENS, {"statuses": ("ok", "")}, "status", "1 to 253"),
    (TOKENS, {"status": index(0, 2)}, "status[1]", "index"),
    (TOKENS, {"status": index()}, "status", "2 rows"),
    (TOKENS, {"request_id": ("r1", "")}, "request_id", "1 to 253"),
    (TOKENS, {"request_id": ("r1",)}, "request_id", "2 rows"),
    (TOKENS, {"session_id": ("s",)}, "session_id", "2 rows"),
    (TOKENS, {"session_id": ("s", "x" * 254)}, "session_id", "0 to 253"),
    (TOKENS, {"trace_id": ("\ud800", "")}, "trace_id", "printable"),  # A lone surrogate: no table takes it.
    (TOKENS, {"t_start_ms": column(-1, T0)}, "t_start_ms[0]", "epoch milliseconds"),
    (TOKENS, {"t_end_ms": column(T0 + 900, T0 - 1)}, "t_end_ms[1]", "after t_start_ms"),
    (TOKENS, {"t_end_ms": column(T0 + 900, T0 + MAX_SPAN_MS + 1)}, "t_end_ms[1]", "after t_start_ms"),
    (TOKENS, {"t_end_ms": column(T0 + 900, I64_MAX)}, "t_end_ms[1]", "year 9999"),
    (TOKENS, {"t_first_ms": column(T0 - 1, 0)}, "t_first_ms[0]", "0 for unknown"),
    (TOKENS, {"t_first_ms": column(T0 + 901, 0)}, "t_first_ms[0]", "0 for unknown"),
    (TOKENS, {"prompt_tokens": column(-1, 0)}, "prompt_tokens[0]", "2^31-1"),
    (TOKENS, {"completion_tokens": column(0, MAX_TOKENS + 1)}, "completion_tokens[1]", "2^31-1"),
    (TOKENS, {"cached_tokens": column(101, 0)}, "cached_tokens[0]", "subset"),
    (TOKENS, {"t_ms": 10**30}, "t_ms", "year 9999"),
    # other quantities
    (USAGE, {"meter": ("",)}, "meter", "1 to 253"),
    (USAGE, {"unit": ()}, "unit", "1 rows"),
    (USAGE, {"quantity": ("1e3",)}, "quantity", "12.5"),
    (USAGE, {"quantity": ("NaN",)}, "quantity", "12.5"),
    (USAGE, {"quantity": ("",)}, "quantity", "12.5"),
    (USAGE, {"quantity": ("9" * 21,)}, "quantity", "20 digits before"),
    (USAGE, {"quantity": ("0." + "9" * 13,)}, "quantity", "12 after"),
    (USAGE, {"quantity": ("1.",)}, "quantity", "12.5"),
    (USAGE, {"tenant": ("__idle__",)}, "tenant", "Wattlog's own"),
    (USAGE, {"event_id": ("a", "b")}, "event_id", "1 rows"),
    (USAGE, {"step": ("a\n",)}, "step", "printable"),
    (USAGE, {"dimensions": ({"": "x"},)}, "dimensions[0]", "1 to 253"),
    (USAGE, {"dimensions": ({"pod": "x" * 254},)}, "dimensions[0]", "0 to 253"),
    (USAGE, {"dimensions": ({str(n): "" for n in range(33)},)}, "dimensions[0]", "at most 32"),
    (USAGE, {"t0_ms": column(-1)}, "t0_ms[0]", "epoch milliseconds"),
    (USAGE, {"t1_ms": column(T0 - 1)}, "t1_ms[0]", "before t0_ms"),
    (USAGE, {"t_ms": -1}, "t_ms", "epoch milliseconds"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "changed", "field", "mend"),
    BAD,
    ids=[f"{type(b).__name__} {f} {i}" for i, (b, _, f, _) in enumerate(BAD)],
)
def test_a_bad_batch_names_the_field_and_the_fix(batch, changed, field, mend):
    with pytest.raises(BadEvent) as caught:
        replace(batch, **changed).check()
    assert caught.value.field == field
    assert mend in caught.value.fix


GOOD = [
    (POWER, {}),
    (POWER, {"t1_ms": column(T0 + 500, T0 + MAX_SPAN_MS)}),
    (POWER, {"energy_uj": column(0, MAX_ENERGY_UJ)}),
    (POWER, {"t0_ms": column(T0, MAX_TIME_MS - 1), "t1_ms": column(T0 + 500, MAX_TIME_MS)}),
    (POWER, {"owner": ""}),
    (TOKENS, {}),
    (TOKENS, {"t_first_ms": column(T0 + 900, T0)}),
    (TOKENS, {"cached_tokens": column(100, 0)}),
    (TOKENS, {"session_id": (), "trace_id": ()}),
    (TOKENS, {"tenants": ("Käse & Co.", "_one_")}),
    (USAGE, {}),
    (USAGE, {"tenant": ("",)}),
    (USAGE, {"quantity": (f"-{'9' * 20}.{'9' * 12}",)}),
    (USAGE, dict.fromkeys(("origin", "event_id", "session_id", "trace_id", "step", "dimensions"), ())),
]  # fmt: skip


@pytest.mark.parametrize(("batch", "changed"), GOOD)
def test_values_on_the_edge_are_valid(batch, changed):
    replace(batch, **changed).check()


def test_an_event_with_too_many_rows_is_refused():
    n = MAX_ROWS + 1
    big = replace(POWER, t0_ms=np.zeros(n, np.int64))
    with pytest.raises(BadEvent, match="65536 rows"):
        big.check()


def test_a_heartbeat_is_an_empty_batch_with_a_time():
    none, no = column(), index()
    for batch in (
        PowerBatch(
            node="n",
            gpus=(),
            gpu=no,
            t0_ms=none,
            t1_ms=none,
            energy_uj=none,
            method=np.zeros(0, np.uint8),
            busy_ms=none,
            t_ms=T0,
        ),
        TokenBatch(
            tenants=(),
            tenant=no,
            models=(),
            model=no,
            request_id=(),
            t_start_ms=none,
            t_first_ms=none,
            t_end_ms=none,
            prompt_tokens=none,
            cached_tokens=none,
            completion_tokens=none,
            t_ms=T0,
        ),
    ):
        batch.check()
        assert (len(batch), batch.event_ms) == (0, T0)


@pytest.mark.parametrize(("t_ms", "event_ms"), [(0, T0 + 2_000), (T0, T0 + 2_000), (T0 + 3_000, T0 + 3_000)])
def test_a_batch_is_complete_up_to_its_last_end_or_its_stated_time(t_ms, event_ms):
    assert replace(POWER, t_ms=t_ms).event_ms == event_ms


def test_methods_are_ordered_from_the_best_evidence_to_none():
    assert Method.COUNTER < Method.INTEGRATED < Method.ESTIMATED < Method.UNMETERED
