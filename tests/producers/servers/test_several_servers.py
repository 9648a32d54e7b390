"""One address with several servers behind it: named and refused, and no token is invented before or after."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from producers.servers.server_identity import STILL_MS
from producers.servers.token_limits import DEFAULT_GPUS, PER_GPU, UNKNOWN_GPU, limit_of
from tests.producers.servers.scrapes import Scrapes, samples

DAY = 86_400
Starts = list[float | None]


class Fleet:
    """Servers that serve up to 40 tokens in ten seconds, and a Service in front of them."""

    def __init__(self, starts: Starts, counts: list[int], seed: int) -> None:
        self.starts, self.counts, self.random, self.served = starts, counts, random.Random(seed), 0

    def advance(self) -> None:
        for n in range(len(self.counts)):
            grown = self.random.randrange(40)
            self.counts[n] += grown
            self.served += grown

    def page(self, n: int) -> tuple[str, float | None]:
        return samples({"in": self.counts[n], "out": self.counts[n] // 3}), self.starts[n]


def answers(choose: Callable[[int, random.Random], int], fleet: Fleet, scrapes: Scrapes, count: int) -> None:
    for k in range(count):
        fleet.advance()
        scrapes.scrape(*fleet.page(choose(k, fleet.random)))


ROUTES: dict[str, Callable[[int, random.Random], int]] = {
    "in turn": lambda k, _: k % 2,
    "at random": lambda _, numbers: numbers.randrange(2),
    "three times each": lambda k, _: k // 3 % 2,
    "twelve times each, as over a connection that is kept": lambda k, _: k // 12 % 2,
}
VISITS: dict[str, Callable[[int, random.Random], int]] = {
    "the second for nine readings": lambda k, _: int(5 <= k < 14),
    "the second for nine readings, twice": lambda k, _: int(5 <= k < 14 or 40 <= k < 49),
    "the second for half an hour": lambda k, _: int(5 <= k < 185),
    "the second for half an hour, twice": lambda k, _: int(5 <= k < 185 or 230 <= k < 410),
}
FLEETS: dict[str, tuple[Starts, list[int]]] = {
    "started on two days": ([-2 * DAY, -DAY], [5_000_000, 4_000_000]),
    "started on two days, the younger has served more": ([-2 * DAY, -DAY], [4_000_000, 5_000_000]),
    "started in the same second": ([-DAY, -DAY + 0.3], [4_000_000, 4_000_000]),
    "started in the same second, the second has served more": ([-DAY + 0.1, -DAY + 0.4], [4_000_000, 4_600_000]),
    "started in the same second, by whole seconds": ([-DAY, -DAY], [4_000_000, 4_600_000]),
    "started a second apart, by whole seconds": ([-DAY, -DAY + 1], [4_600_000, 4_000_000]),
    "started 30 s apart, just now": ([-40, -10], [100, 20]),
    "workers of one server, each with counters of its own": ([-DAY, -DAY + 0.8], [100, 40]),
    "without start times": ([None, None], [5_000_000, 5_600_000]),
    "without start times, the second ten times as busy": ([None, None], [500_000, 5_000_000]),
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize(("starts", "counts"), FLEETS.values(), ids=FLEETS)
def test_a_service_is_refused_by_name_and_no_token_is_invented(
    starts: Starts, counts: list[int], route: Callable[[int, random.Random], int]
) -> None:
    fleet, scrapes = Fleet(starts, list(counts), 7), Scrapes()
    answers(route, fleet, scrapes, 60)
    assert "several_servers" in scrapes.reasons
    assert scrapes.prompt_tokens <= fleet.served
    first = scrapes.reasons.index("several_servers")
    assert scrapes.reasons[first:] == ["several_servers"] * len(scrapes.reasons[first:])
    assert "this is a Service in front of several pods: scrape the pods" in scrapes.results[-1].refused[0]


@pytest.mark.parametrize("route", VISITS.values(), ids=VISITS)
@pytest.mark.parametrize(("starts", "counts"), FLEETS.values(), ids=FLEETS)
def test_a_server_that_answers_in_anothers_place_for_a_while_adds_nothing(
    starts: Starts, counts: list[int], route: Callable[[int, random.Random], int]
) -> None:
    fleet, scrapes = Fleet(starts, list(counts), 7), Scrapes()
    answers(route, fleet, scrapes, 420)
    assert scrapes.prompt_tokens <= fleet.served
    assert scrapes.reasons


@pytest.mark.parametrize("starts", [[-DAY] * 3, [None] * 3, [-DAY, -DAY + 0.8, -DAY + 0.4]])
@pytest.mark.parametrize("readings", [1, 5, 12, 30, 120])
def test_three_servers_that_answer_in_turn_are_refused_and_no_token_is_invented(starts: Starts, readings: int) -> None:
    for counts in ([4_000_000, 4_600_000, 4_300_000], [4_600_000, 4_000_000, 4_300_000], [10, 500_000, 4_300_000]):
        fleet, scrapes = Fleet(starts, counts, 7), Scrapes()
        answers(lambda k, _: k // readings % 3, fleet, scrapes, max(60, 5 * readings))
        assert scrapes.prompt_tokens <= fleet.served
        assert "several_servers" in scrapes.reasons


@given(
    st.lists(st.integers(-3 * DAY, -400), min_size=2, max_size=5, unique=True), st.integers(0, 10_000),
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
)  # fmt: skip
@settings(deadline=None)
def test_a_service_with_start_times_never_counts_more_than_was_served(
    starts: list[int], seed: int, order: list[int]
) -> None:
    numbers = random.Random(seed)
    fleet, scrapes = Fleet([*starts], [numbers.randrange(10**7) for _ in starts], seed), Scrapes()
    order = [n % len(starts) for n in order]
    answers(lambda k, _: order[k], fleet, scrapes, len(order))
    assert scrapes.prompt_tokens <= fleet.served
    if any(starts[a] - starts[b] > 2 for a, b in pairwise(order)):
        assert "several_servers" in scrapes.reasons


def test_nothing_counts_until_one_server_alone_has_answered_for_an_hour() -> None:
    scrapes = Scrapes(every_s=60)
    scrapes.run([(-DAY, {"in": 900}), (-2 * DAY, {"in": 5}), (-DAY, {"in": 900})])
    tokens = scrapes.run([(-DAY, {"in": 900 + n}) for n in range(1, 70)])
    still = STILL_MS // 60_000
    assert tokens == [0] * still + [1] * (69 - still)
    [note] = [note for result in scrapes.results for note in result.notes]
    assert note == "one server alone has answered for an hour: its tokens count from now on"


def test_one_server_that_restarts_again_and_again_is_no_service() -> None:
    scrapes = Scrapes()
    assert scrapes.run([(10 * n - 5, {"in": 7}) for n in range(6)]) == [0, 7, 7, 7, 7, 7]
    assert scrapes.reasons == []


def test_a_busy_server_without_start_time_counts_all_of_its_tokens() -> None:
    scrapes = Scrapes()
    scrapes.run([(None, {"in": 50_000 * n}) for n in range(40)])
    assert scrapes.prompt_tokens == 50_000 * 39
    assert scrapes.reasons == []


@pytest.mark.parametrize("start", [None, -DAY])
def test_a_single_burst_of_a_server_that_may_be_another_one_counts_after_an_hour(
    start: float | None,
) -> None:
    scrapes = Scrapes()
    tokens = scrapes.run([(start, {"in": 100_000 * (n > 0) + n}) for n in range(400)])
    first = next(n for n, count in enumerate(tokens) if count)
    assert (first, sum(tokens)) == (STILL_MS // 10_000, 100_399)
    assert sum(len(result.notes) for result in scrapes.results) == 1
    assert scrapes.reasons == []


@pytest.mark.parametrize("adjusted_s", [0, 1, -1])
def test_a_start_time_with_its_part_of_a_second_is_of_one_server(adjusted_s: int) -> None:
    scrapes = Scrapes()
    starts = [-DAY + 0.37] * 5 + [-DAY + 0.37 + adjusted_s] * 5  # The machine's clock is adjusted by whole seconds.
    tokens = scrapes.run([(start, {"in": 9 * n + 100_000 * (n > 2)}) for n, start in enumerate(starts)])
    assert tokens == [0, 9, 9, 100_009, *[9] * 6]
    assert scrapes.reasons == []


# Beyond belief


def test_a_growth_that_no_server_can_produce_is_refused_by_name() -> None:
    scrapes = Scrapes(limit=1_000)
    assert scrapes.run([(-DAY, {"in": 0}), (-DAY, {"in": 10_000}), (-DAY, {"in": 20_001}), (-DAY, {"in": 20_005})]) == [
        0, 10_000, 0, 4,
    ]  # fmt: skip
    [text] = scrapes.results[2].refused
    assert "10,001 prompt and 0 completion tokens of 0 requests in 10 s are more than this server can produce" in text


def test_a_model_beyond_belief_costs_no_other_model_its_tokens() -> None:
    scrapes = Scrapes(limit=1_000)
    scrapes.scrape(samples({'in model="a"': 0, 'in model="b"': 0}), -DAY)
    rows = scrapes.scrape(samples({'in model="a"': 10**9, 'in model="b"': 5}), -DAY).rows
    assert [(row.model, row.served.prompt_tokens) for row in rows] == [("b", 5)]


@pytest.mark.parametrize(
    ("gpu", "gpus", "own", "limit"),
    [
        ("", DEFAULT_GPUS, {}, UNKNOWN_GPU * DEFAULT_GPUS),
        ("", 1, {"": 7}, 7),
        ("NVIDIA H100 80GB HBM3", 2, {}, 2 * PER_GPU["H100"]),
        ("nvidia gh200 480gb", 1, {}, PER_GPU["GH200"]),
        ("NVIDIA L40S", 1, {}, PER_GPU["L40S"]),
        ("H100", 3, {"H100": 10}, 30),
        ("Acme X1", 1, {"acme x": 5}, 5),
    ],
)
def test_a_limit_is_per_gpu_type_and_configurable(gpu: str, gpus: int, own: dict[str, int], limit: int) -> None:
    assert limit_of(gpu, gpus, own) == limit


def test_a_type_of_gpu_without_a_figure_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(BadInput, match="give them in `max_tokens_per_s`, or use A10"):
        limit_of("Acme X1", 1, {})
