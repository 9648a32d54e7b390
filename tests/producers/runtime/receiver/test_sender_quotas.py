"""Each sender may send so many requests and rows per second; beyond, it has to wait."""

from __future__ import annotations

import pytest

from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.sender_quotas import BURST_S, Quota, SenderQuotas, TokenBuckets

NOW_MS = 5_000_000


def wait_s(quotas: SenderQuotas, sender: str, now_ms: int = NOW_MS) -> int:
    """Seconds that a request has to wait; 0 where it was accepted."""
    try:
        quotas.take_request(sender, now_ms)
    except Rejected as error:
        assert (error.status, error.kind) == (429, "too-fast")
        assert error.retry_s is not None
        return error.retry_s
    return 0


def test_a_sender_that_was_silent_may_send_the_rate_of_ten_seconds_at_once() -> None:
    quotas = SenderQuotas(Quota(requests_per_s=2))
    assert [wait_s(quotas, "a") for _ in range(2 * BURST_S + 2)] == [0] * 2 * BURST_S + [1, 1]


def test_a_sender_at_its_rate_never_waits() -> None:
    quotas = SenderQuotas(Quota(requests_per_s=2))
    assert {wait_s(quotas, "a", NOW_MS + n * 500) for n in range(1_000)} == {0}


def test_a_sender_beyond_its_rate_has_its_rate_and_others_go_on() -> None:
    quotas = SenderQuotas(Quota(requests_per_s=2))
    accepted = [wait_s(quotas, "a", NOW_MS + n * 100) == 0 for n in range(1_000)]
    assert sum(accepted) == 2 * BURST_S + 2 * 100
    assert wait_s(quotas, "b", NOW_MS + 100_000) == 0


def test_after_the_time_that_the_answer_gives_a_sender_is_taken() -> None:
    quotas = SenderQuotas(Quota(rows_per_s=1_000))
    quotas.take_rows("a", 25_300, NOW_MS)
    later_s = wait_s(quotas, "a")
    assert later_s == 16
    assert wait_s(quotas, "a", NOW_MS + (later_s - 1) * 1000) == 1
    assert wait_s(quotas, "a", NOW_MS + later_s * 1000) == 0


def test_a_request_larger_than_the_bucket_is_taken_and_the_next_one_waits_for_it() -> None:
    quotas = SenderQuotas(Quota(rows_per_s=1))
    assert wait_s(quotas, "a") == 0
    quotas.take_rows("a", 16_384, NOW_MS)
    assert wait_s(quotas, "a") == 16_384 - BURST_S + 1


def test_a_refused_request_costs_nothing() -> None:
    quotas = SenderQuotas(Quota(requests_per_s=1))
    waits = [wait_s(quotas, "a") for _ in range(BURST_S + 1_000)]
    assert set(waits[BURST_S:]) == {1}


def test_the_log_names_the_sender_and_the_option() -> None:
    quotas = SenderQuotas(Quota(requests_per_s=1))
    quotas.take_request("idp|gateway-1", NOW_MS)
    for _ in range(BURST_S - 1):
        quotas.take_request("idp|gateway-1", NOW_MS)
    with pytest.raises(Rejected) as refusal:
        quotas.take_request("idp|gateway-1", NOW_MS)
    assert "idp|gateway-1" in refusal.value.log_text
    assert "max_requests_per_s" in refusal.value.log_text
    assert "idp|gateway-1" not in refusal.value.detail


def test_without_a_quota_no_sender_waits() -> None:
    quotas = SenderQuotas(Quota())
    quotas.take_rows("a", 10**12, NOW_MS)
    assert wait_s(quotas, "a") == 0


def test_only_so_many_senders_are_remembered_and_the_one_that_sent_least_recently_has_a_full_bucket() -> None:
    buckets = TokenBuckets(1, max_senders=2)
    for sender in ("a", "b", "c"):
        buckets.take(sender, 100, NOW_MS)
    assert [buckets.wait_s(sender, NOW_MS) for sender in ("a", "b", "c")] == [0, 91, 91]
