"""Input of the bench: the same rows in every shape, numbered without gaps, in time before the windows close."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.harness.backlog import LATENESS_MS, SKEW_MS, WINDOW_MS, Shape, closing_ms, end_of, messages
from bench.harness.fleet import BLOCK_S, Events, Fleet, Totals, blocks, slices
from contracts import codec
from contracts.events import PowerBatch, TokenBatch

FLEET = Fleet(base_ms=1_700_000_000_000 // 3_600_000 * 3_600_000, workloads=2)


def _events(rows: int, fleet: Fleet = FLEET):
    numbered = Events(fleet)
    return [numbered.event(s) for block in blocks(fleet, 1) for s in slices(fleet, block, rows)]


def _all_rows(rows: int) -> tuple[list, list]:
    """All readings and all requests, sorted."""
    readings, requests = [], []
    for event in _events(rows):
        b = event.batch
        if isinstance(b, PowerBatch):
            readings += [(b.node, b.gpus[g], t0, uj) for g, t0, uj in zip(b.gpu, b.t0_ms, b.energy_uj, strict=True)]
        else:
            assert isinstance(b, TokenBatch)
            tenants = [b.tenants[t] for t in b.tenant]
            requests += list(zip(b.request_id, tenants, b.t_start_ms, b.t_end_ms, b.completion_tokens, strict=True))
    return sorted(readings), sorted(requests)


@pytest.mark.parametrize("rows", [8, 64, 512])
def test_every_shape_holds_the_same_rows(rows: int) -> None:
    assert _all_rows(rows) == _all_rows(1)


@pytest.mark.parametrize("rows", [1, 8, 64])
def test_a_message_holds_as_many_rows_as_its_shape(rows: int) -> None:
    assert {len(e.batch) for e in _events(rows)} == {rows}


def test_a_source_numbers_its_events_without_gaps() -> None:
    seen: dict[str, list[int]] = {}
    for event in _events(8):
        seen.setdefault(event.source, []).append(event.seq)
    assert all(numbers == list(range(len(numbers))) for numbers in seen.values())


def test_totals_are_the_sums_of_the_rows() -> None:
    totals = Totals()
    sent = [codec.decode(h, v).batch for _, _, _, _, h, v in messages(FLEET, Shape(64, "packed"), 1, totals)]
    power = [b for b in sent if isinstance(b, PowerBatch)]
    tokens = [b for b in sent if isinstance(b, TokenBatch)]
    assert sum(int(b.energy_uj.sum()) for b in power) == totals.energy_uj
    assert sum(int(b.prompt_tokens.sum()) for b in tokens) == totals.prompt_tokens
    assert sum(len(b) for b in tokens) == totals.requests
    assert sum(len(b) for b in sent) == totals.rows == FLEET.rows_per_block


def test_a_fifth_of_the_rows_are_requests_by_default() -> None:
    assert FLEET.requests_per_block / (FLEET.requests_per_block + FLEET.readings_per_block) == pytest.approx(0.2)
    half = replace(FLEET, token_share=0.5)
    assert half.requests_per_block == half.readings_per_block


def test_the_last_messages_close_every_window() -> None:
    end_ms = end_of(FLEET, 1)
    ends = [int(np.max(e.batch.t1_ms)) for e in _events(64) if isinstance(e.batch, PowerBatch)]
    assert max(ends) <= end_ms
    last_window_end_ms = (max(ends) // WINDOW_MS + 1) * WINDOW_MS
    assert closing_ms(end_ms) - SKEW_MS - LATENESS_MS >= last_window_end_ms


def test_a_seed_determines_the_rows() -> None:
    def energy(seed: int) -> int:
        return sum(int(b.energy_uj.sum()) for b in next(blocks(replace(FLEET, seed=seed), 1)))

    assert energy(1) == energy(1) != energy(2)


def test_some_intervals_span_two_windows() -> None:
    crossing = [
        bool(((b.t1_ms - 1) // WINDOW_MS != b.t0_ms // WINDOW_MS).any())
        for b in (e.batch for e in _events(512))
        if isinstance(b, PowerBatch)
    ]
    assert any(crossing)


def test_a_number_of_rows_that_does_not_divide_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        next(slices(FLEET, next(blocks(FLEET, 1)), 8 * (BLOCK_S + 1)))
