"""Growth of a server's counters between readings: each series alone, and every token at most once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.servers.counter_snapshots import ServedSince, ServerCounterSnapshot
from producers.servers.served_rows import ServedRow
from producers.servers.token_counters import ServedTotals
from tests.producers.servers.scrapes import Scrapes, prompts, samples
from tests.support.clocks import T0

OLD = -86_400
"""Start of a server that has run for a day at the first reading."""
A, B = 'in engine="a"', 'in engine="b"'


def page(prompt: int, completion: int = 0, cached: int = 0, ended: int = 0, failed: int = 0, life: int = 0) -> str:
    return samples({"in": prompt, "out": completion, "hit": cached, "ended": ended, "failed": failed, "life": life})


def test_the_first_reading_counts_nothing() -> None:
    assert Scrapes().scrape(page(100, 50), OLD).rows == ()


def test_the_use_between_two_readings_is_the_growth_of_the_counters() -> None:
    scrapes = Scrapes()
    scrapes.scrape(page(100, 50, 10, 3))
    [row] = scrapes.scrape(page(160, 90, 30, 5)).rows
    assert row == ServedRow("unknown", "ok", T0, T0 + 10_000, ServedTotals(60, 20, 40, 2))


def test_failures_have_a_row_of_their_own() -> None:
    scrapes = Scrapes()
    scrapes.scrape(page(0))
    rows = scrapes.scrape(page(6, 4, 0, 2, 3)).rows
    assert [(r.status, r.served.requests, r.served.completion_tokens) for r in rows] == [("ok", 2, 4), ("error", 3, 0)]


def test_requests_counted_at_their_end_began_a_mean_duration_before() -> None:
    scrapes = Scrapes()
    scrapes.scrape(page(0))
    [row] = scrapes.scrape(page(6, 4, ended=2, life=50)).rows
    assert (row.t0_ms, row.t1_ms) == (T0 - 25_000, T0 + 10_000)


SERIES: Mapping[str, tuple[Sequence[tuple[float | None, Mapping[str, int]]], list[int]]] = {
    "two engines are summed": ([(OLD, {A: 5, B: 7}), (OLD, {A: 6, B: 9})], [0, 3]),
    "one that appears in a running server begins": (
        [(OLD, {A: 5}), (OLD, {A: 6, B: 900}), (OLD, {A: 6, B: 902})], [0, 1, 2],
    ),
    "one that leaves takes nothing": ([(OLD, {A: 5, B: 900}), (OLD, {A: 6})], [0, 1]),
    "one that returns has grown since": ([(OLD, {A: 5, B: 900}), (OLD, {A: 6}), (OLD, {A: 6, B: 904})], [0, 1, 4]),
    "all are new after a restart": ([(OLD, {A: 5}), (4, {A: 3, B: 9})], [0, 12]),
    "the one that was missing is new after a restart": (
        [(OLD, {A: 5, B: 900}), (4, {A: 3}), (4, {A: 3, B: 901}), (4, {A: 3, B: 903})], [0, 3, 0, 2],
    ),
    "a restart to a higher value": ([(OLD, {A: 5}), (4, {A: 50})], [0, 50]),
    "a restart during which the page was away": ([(OLD, {A: 5}), (OLD, {A: 8}), (17, {A: 4}), (17, {A: 6})],
                                                 [0, 3, 4, 2]),
    "a start that drifts with the clock is no restart": ([(OLD, {A: 5}), (OLD + 1, {A: 8}), (OLD, {A: 9})], [0, 3, 1]),
    "a page that loses its start time": ([(OLD, {A: 5}), (None, {A: 8}), (OLD, {A: 9})], [0, 3, 1]),
    "another server took its place": ([(OLD, {A: 900}), (OLD, {A: 901}), (OLD / 2, {A: 5_000_000}),
                                       (OLD / 2, {A: 5_000_007})], [0, 1, 0, 7]),
    "the clocks differ: a start just before the last reading": ([(OLD, {A: 900}), (OLD, {A: 901}), (-60, {A: 40}),
                                                              (-60, {A: 45})], [0, 1, 0, 5]),
}  # fmt: skip


@pytest.mark.parametrize(("pages", "tokens"), SERIES.values(), ids=SERIES)
def test_each_series_is_differenced_alone(
    pages: Sequence[tuple[float | None, Mapping[str, int]]], tokens: list[int]
) -> None:
    assert Scrapes().run(pages) == tokens


def test_a_restart_is_reported_with_its_time() -> None:
    scrapes = Scrapes()
    scrapes.scrape(page(100, 50), OLD)
    result = scrapes.scrape(page(120, 60, ended=4), 4)
    assert result.rows == [ServedRow("unknown", "ok", T0 + 4_000, T0 + 10_000, ServedTotals(120, 0, 60, 4))]
    [text] = result.restarts
    assert text.startswith("restarted at 20")
    assert scrapes.scrape(page(120, 60, ended=4), 4).restarts == []


def test_each_process_of_a_page_has_its_own_start() -> None:
    def engines(a: int, b: int, b_started: int) -> str:
        starts = {"a": OLD, "b": b_started}
        text = "".join(f'process_start_time_seconds{{engine="{e}"}} {T0 / 1000 + s}\n' for e, s in starts.items())
        return text + samples({A: a, B: b})

    scrapes = Scrapes()
    scrapes.scrape(engines(1_000, 2_000, OLD))
    result = scrapes.scrape(engines(1_001, 30, 4))
    assert prompts(result.rows) == 31
    assert len(result.restarts) == 1
    assert 'engine="b"' in result.restarts[0]


def test_a_series_that_says_when_it_was_created_counts_from_there() -> None:
    def created(b_s: int) -> str:
        return samples({A: 5, B: 7}) + f'\nin_created{{engine="b"}} {T0 / 1000 + b_s}'

    for b_s, tokens in ((3, 7), (-50, 0)):
        scrapes = Scrapes()
        scrapes.scrape(samples({A: 5}), OLD)
        assert prompts(scrapes.scrape(created(b_s), OLD).rows) == tokens


def test_a_server_that_came_to_be_after_the_last_reading_counts_from_0() -> None:
    scrapes = Scrapes()
    [row] = scrapes.scrape(page(70, 5, ended=1), born_s=-30).rows
    assert row == ServedRow("unknown", "ok", T0, T0, ServedTotals(70, 0, 5, 1))._replace(t0_ms=T0 - 30_000)
    assert prompts(scrapes.scrape(page(75, 5, ended=1)).rows) == 5


# A counter that goes back without a restart


def test_a_counter_that_goes_back_begins_at_its_new_value_and_counts_when_nothing_else_does() -> None:
    scrapes = Scrapes()
    values = [100, 20, *range(25, 80, 5)]
    assert scrapes.run([(None, {"in": value}) for value in values]) == [0] * 11 + [50, 5]
    assert scrapes.reasons == ["went_back"]
    assert {result.is_complete for result in scrapes.results[1:11]} == {False}


def test_one_engine_that_goes_back_delays_the_others_and_loses_none_of_their_tokens() -> None:
    scrapes = Scrapes()
    tokens = scrapes.run([(OLD, {A: 100 + n, B: 50 if n == 0 else 3}) for n in range(12)])
    assert tokens == [0] * 11 + [11]


def test_held_tokens_are_spread_over_the_time_in_which_they_were_made() -> None:
    scrapes = Scrapes()
    for value in (100, 20, *range(25, 75, 5)):
        result = scrapes.scrape(page(value))
    [row] = result.rows
    assert (row.t0_ms, row.t1_ms) == (T0, T0 + 110_000)


def test_a_glitch_to_0_counts_no_token_twice() -> None:
    scrapes = Scrapes()
    scrapes.run([(OLD, {"in": value}) for value in (1_000, 0, *[1_005] * 20)])
    assert scrapes.prompt_tokens <= 1_005


# Cached tokens


def test_cached_tokens_ahead_of_their_prompts_count_when_those_follow() -> None:
    scrapes = Scrapes()
    scrapes.scrape(page(0))
    rows = [*scrapes.scrape(page(10, 1, 14)).rows, *scrapes.scrape(page(30, 1, 16)).rows]
    assert [(r.served.prompt_tokens, r.served.cached_tokens) for r in rows] == [(10, 10), (20, 6)]


def test_cached_tokens_that_stay_ahead_for_5_minutes_make_no_later_prompt_free() -> None:
    scrapes = Scrapes()
    scrapes.scrape(page(0))
    scrapes.scrape(page(10, 1, 1_010))
    for _ in range(31):
        scrapes.scrape(page(10, 1, 1_010))
    assert scrapes.reasons == ["cached_ahead"]
    [row] = scrapes.scrape(page(510, 1, 1_010)).rows
    assert (row.served.prompt_tokens, row.served.cached_tokens) == (500, 0)


# Checkpoints of earlier releases


def test_a_checkpoint_of_totals_by_model_begins_again_and_says_so() -> None:
    scrapes = Scrapes()
    scrapes.state = ServerCounterSnapshot(T0 - 10_000, None, {"m": ServedTotals(100, 0, 50, 3)})
    result = scrapes.scrape(samples({'in model="m"': 130}))
    [note] = result.notes
    assert (result.rows, note.endswith("is an earlier release's: tokens count from now on")) == ((), True)
    assert prompts(scrapes.scrape(samples({'in model="m"': 131})).rows) == 1


# Any order, any absence, any restarts

Step = tuple[list[int], bool, list[int]]
STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 50), min_size=4, max_size=4), st.booleans(), st.lists(st.integers(0, 3), max_size=6)
    ),
    max_size=20,
)
"""Growth of four series, whether the server restarts before it, and the series that the page shows, in their order."""


@given(STEPS)
@settings(deadline=None)
def test_every_token_that_a_page_shows_counts_once_and_none_twice(steps: list[Step]) -> None:
    scrapes, values, started = Scrapes(), [1_000] * 4, float(OLD)
    scrapes.scrape(samples({f'in n="{n}"': 1_000 for n in range(4)}), started)
    base, truth, served = dict.fromkeys(range(4), 1_000), 0, 0
    for t, (growth, restarts, visible) in enumerate(steps):
        if restarts:
            values, started, base = [0] * 4, 10 * t + 5, {}
        values = [value + grown for value, grown in zip(values, growth, strict=True)]
        served += sum(growth)
        order = list(dict.fromkeys(visible))
        for n in order:
            truth += values[n] - base.get(n, 0 if restarts else values[n])
            base[n] = values[n]
        scrapes.scrape(samples({**{f'in n="{n}"': values[n] for n in order}, "out": 0}), started)
        if restarts:  # What this page did not show begins where it is first seen.
            assert set(base) == set(order)
    assert scrapes.prompt_tokens == truth
    assert truth <= served


@given(st.permutations([f'in n="{n}",engine="{n % 2}"' for n in range(6)]), st.lists(st.integers(0, 9), max_size=8))
@settings(deadline=None)
def test_the_order_of_a_page_changes_nothing(order: list[str], growth: list[int]) -> None:
    ordered, shuffled = Scrapes(), Scrapes()
    total = 0
    for grown in [0, *growth]:
        total += grown
        values = {name: total * (n + 1) for n, name in enumerate(sorted(order))}
        first: ServedSince = ordered.scrape(samples(values), OLD)
        second = shuffled.scrape(samples({name: values[name] for name in order}), OLD)
        assert (first.rows, first.snapshot) == (second.rows, second.snapshot)
    assert ordered.prompt_tokens == 21 * sum(growth)
