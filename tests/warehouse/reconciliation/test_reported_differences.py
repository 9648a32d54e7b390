"""Differences that users of other systems reported: each is named, with its source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.warehouse.reconciliation.test_judgement import CHAT, day, requests, since, verdict
from warehouse.reconciliation.judgement import judge
from warehouse.reconciliation.witnesses import F64, Pair, Relation, Witnesses
from warehouse.reconciliation.words import say

GPUS_UJ = day() * 3e9


def of_chat(quantity: str, relation: Relation, first: str, a: F64, second: str, b: F64) -> Pair:
    return Pair(CHAT, quantity, relation, first, second, a=a, b=b)


def tokens(quantity: str, a: F64, b: F64) -> Pair:
    return of_chat(quantity, Relation.COUNTED, "ledger", a, "servers", b)


def metered(change: Callable[[F64], F64]) -> list[Pair]:
    return [of_chat("energy_uj", Relation.METERED, "counter", since(GPUS_UJ, change), "watts", GPUS_UJ)]


def several_answers(share: float, n: int) -> list[Pair]:
    """A share of the calls asks for n answers: vLLM counts the prompt and the request n times, a gateway once."""
    more = since(day(), lambda c: np.round(c * (1 + share * (n - 1))))
    return [
        requests(day(), more),
        tokens("prompt_tokens", 300 * day(), 300 * more),
        tokens("cached_tokens", 0 * day(), 300 * (more - day())),
        tokens("completion_tokens", 90 * day(), 90 * day()),
    ]


def mostly_cached() -> list[Pair]:
    """Agents' prompts, 99 % of them cached, which one side counts and the other does not."""
    computed = since(900 * day(), lambda c: np.round(0.01 * c))
    return [
        requests(day(), day()),
        tokens("prompt_tokens", 900 * day(), computed),
        tokens("cached_tokens", 891 * day(), 891 * day()),
        tokens("completion_tokens", 30 * day(), 30 * day()),
    ]


def without_usage() -> list[Pair]:
    """A stream without usage: the gateway estimates an eighth of the prompt and no answer."""
    return [
        requests(day(), day()),
        tokens("prompt_tokens", since(800 * day(), lambda c: c / 8), 800 * day()),
        tokens("completion_tokens", since(90 * day(), lambda c: 0 * c), 90 * day()),
    ]


def standing_prompts() -> list[Pair]:
    """A counter of prompts that stands after an error in the server, beside others that go on."""
    return [
        requests(day(), day()),
        tokens("prompt_tokens", 800 * day(), since(800 * day(), lambda c: 0 * c)),
        tokens("completion_tokens", 90 * day(), 90 * day()),
    ]


REPORTED = {
    "vLLM #56361: several answers to a prompt": (several_answers(0.05, 8), [("excess", "servers")]),
    "the same of few calls": (several_answers(0.03, 2), [("excess", "servers")]),
    "LiteLLM #21936: cached prompts of agents": (mostly_cached(), [("cached", "servers")]),
    "LiteLLM #36943: streams without usage": (without_usage(), [("silent", "ledger")]),
    "LMCache #3269: a counter that stands": (standing_prompts(), [("silent", "servers")]),
    "scaphandre #436: 25,000 times too little": (metered(lambda uj: uj / 25e3), [("factor", "counter")]),
    "dcgm-exporter #257: each of 7 instances is the GPU": (metered(lambda uj: 7 * uj), [("factor", "counter")]),
    "Kepler #1349: more than the outlet, always": (
        [of_chat("energy_uj", Relation.CONTAINED, "GPUs", 1.6 * GPUS_UJ, "wall", GPUS_UJ)], [("excess", "GPUs")],
    ),
}  # fmt: skip
"""What users of other systems found to differ, with their threads."""


@pytest.mark.parametrize(("factor", "text"), [(2.61, "2.6"), (7.004, "7"), (998.2, "1,000"), (1e9, "1,000,000,000")])
def test_a_factor_is_named_to_two_digits(factor: float, text: str) -> None:
    [finding] = judge(Witnesses(metered(lambda uj: factor * uj)))
    assert f"counter is off by a factor of {text}: a wrong unit?" in say(finding)


@pytest.mark.parametrize("case", REPORTED)
def test_a_difference_that_users_reported_is_named(case: str) -> None:
    pairs, expected = REPORTED[case]
    assert [(kind, source) for kind, source, _ in verdict(*pairs)] == expected
