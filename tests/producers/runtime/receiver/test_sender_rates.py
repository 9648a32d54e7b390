"""A sender's tokens on a workload are bounded by what hardware can do, in the time in which they ended."""

from __future__ import annotations

from contextlib import suppress

import pytest

from producers.api import WorkloadBatch
from producers.runtime.batching import RequestRow, token_batch
from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.sender_rates import PERIOD_MS, SenderRates

LIMIT = 100
FULL = LIMIT * PERIOD_MS // 1000


def of(tokens: int, workload: str = "chat", period: int = 5) -> list[WorkloadBatch]:
    """Batches of one request with these tokens."""
    end_ms = period * PERIOD_MS
    row = RequestRow(
        tenant="acme", model="m", request_id="1", t_start_ms=end_ms, t_first_ms=0, t_end_ms=end_ms,
        prompt_tokens=tokens, cached_tokens=0, completion_tokens=0,
    )  # fmt: skip
    return [WorkloadBatch("c", workload, token_batch([row], 0))]


def takes(rates: SenderRates, sender: str, batches: list[WorkloadBatch]) -> bool:
    try:
        with rates.counted(sender, batches):
            return True
    except Rejected as error:
        assert (error.status, error.retry_s) == (429, 60)
        assert sender in error.log_text
        return False


def test_a_sender_beyond_the_bound_is_held_back_and_others_go_on() -> None:
    rates = SenderRates(LIMIT)
    assert [takes(rates, "a", of(FULL)), takes(rates, "a", of(1)), takes(rates, "b", of(1))] == [True, False, True]
    assert [takes(rates, "a", of(1, "embed")), takes(rates, "a", of(1, period=6))] == [True, True]


def test_a_body_that_was_not_stored_is_not_counted() -> None:
    rates = SenderRates(LIMIT)
    with suppress(OSError), rates.counted("a", of(FULL)):
        raise OSError
    assert takes(rates, "a", of(FULL))


@pytest.mark.parametrize(("limit", "workload"), [(None, "chat"), (LIMIT, "external/x"), (LIMIT, "unmatched/m")])
def test_tokens_that_share_no_energy_or_have_no_bound_are_not_held_back(limit: int | None, workload: str) -> None:
    rates = SenderRates(limit)
    assert takes(rates, "a", of(10 * FULL, workload))


def test_only_so_many_sums_are_kept() -> None:
    rates = SenderRates(LIMIT, max_periods=2)
    for period in (1, 2, 3):
        takes(rates, "a", of(FULL, period=period))
    assert [takes(rates, "a", of(1, period=period)) for period in (3, 2, 1)] == [False, False, True]
