"""A source whose numbers another sender took begins a new epoch, says so, and counts it; others go on."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts import topics
from contracts.number_claims import NumberClaim
from producers.runtime import claim_watch
from producers.runtime.claim_watch import ClaimWatch
from producers.runtime.event_sequence import Sequencer

SOURCE = "nvml://c/n/w"


@pytest.fixture
def watch() -> ClaimWatch:
    """A watch that reads no broker."""
    return ClaimWatch({}, CollectorRegistry())


def claim(epoch: int, seq: int = 3, source: str = SOURCE, *, compared: bool = True) -> NumberClaim:
    return NumberClaim(topics.POWER, source, epoch, seq, 0, compared)


def numbered(*sources: str) -> Sequencer:
    numbers = Sequencer(7)
    for source in sources:
        numbers.next(source, topics.POWER)
    return numbers


def test_the_source_begins_a_new_epoch_from_0_and_others_go_on(
    watch: ClaimWatch, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = numbered(SOURCE, "another")
    watch.add(claim(7))
    watch.heed(numbers, 1_000)
    assert (numbers.epoch_of(SOURCE), numbers.next(SOURCE, topics.POWER)) == (1_000, 0)
    assert (numbers.epoch_of("another"), numbers.next("another", topics.POWER)) == (7, 1)
    assert f"{SOURCE}: another sender took number 3 of epoch 7 on {topics.POWER}; epoch 1000 begins" in caplog.text


def test_a_copy_that_the_worker_could_not_compare_is_named_so(
    watch: ClaimWatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch.add(claim(7, compared=False))
    watch.heed(numbered(SOURCE), 1_000)
    assert "number 3 of epoch 7 on wattlog.power.v1 arrived twice; epoch 1000 begins" in caplog.text


def test_a_notice_of_an_earlier_run_begins_no_epoch_and_is_logged(
    watch: ClaimWatch, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = numbered(SOURCE)
    watch.add(claim(6))
    watch.heed(numbers, 1_000)
    assert numbers.epoch_of(SOURCE) == 7
    assert "of epoch 6 on wattlog.power.v1, which is not this one" in caplog.text


def test_a_notice_of_a_source_that_is_not_numbered_yet_waits_for_it(watch: ClaimWatch) -> None:
    numbers = numbered()
    watch.add(claim(7))
    watch.heed(numbers, 1_000)
    numbers.next(SOURCE, topics.POWER)
    watch.heed(numbers, 2_000)
    assert numbers.epoch_of(SOURCE) == 2_000


def test_notices_of_others_are_kept_in_bounded_memory(watch: ClaimWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_watch, "MAX_KEPT", 3)
    for n in range(10):
        watch.add(claim(7, source=f"s{n}"))
    assert [source for source, _ in watch._claims] == ["s7", "s8", "s9"]


@given(st.lists(st.one_of(st.just("event"), st.integers(0, 20)), max_size=30))
def test_no_identity_is_given_twice_wherever_the_clock_stands(steps: list[str | int]) -> None:
    """A clock that was set back begins no epoch of before."""
    numbers, identities = Sequencer(7), list[tuple[int, int]]()
    for step in ["event", *steps, "event"]:
        if step == "event":
            identities.append((numbers.epoch_of(SOURCE), numbers.next(SOURCE, topics.POWER)))
        else:
            numbers.begin_epoch(SOURCE, int(step))
    assert len(set(identities)) == len(identities)
    assert identities == sorted(identities)


def test_a_broker_that_cannot_be_read_is_named_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def refuses() -> None:
        raise RuntimeError("no such luck")

    watch = ClaimWatch({}, CollectorRegistry(), every_s=60)
    watch.read = refuses  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING), watch:
        pass
    assert "wattlog.alerts.v1 cannot be read, so that this producer does not learn of taken numbers: no such luck" in (
        caplog.text
    )
