"""Senders that report the same calls are named where the pairs are more than chance explains."""

from __future__ import annotations

import random
from typing import Any

import pytest

from contracts.units import MS_PER_HOUR
from tests.support.ledger_rows import HOUR, WINDOW_MS, rows
from warehouse.audit.conservation import audit
from warehouse.audit.findings import SameCalls
from warehouse.audit.same_calls import same_calls, same_calls_sentence
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

PERIOD = Period(HOUR, HOUR + MS_PER_HOUR)
Call = dict[str, Any]


def traffic(count: int = 120, seed: int = 1, tokens: int = 4_000) -> list[Call]:
    """Calls of an hour, each in the window of its end."""
    draw = random.Random(seed)
    calls = []
    for n in range(count):
        end = HOUR + draw.randrange(MS_PER_HOUR - 60_000)
        calls.append({
            "request_id": f"r{seed}-{n}", "t_start": end - 900, "t_end": end, "window_start": end - end % WINDOW_MS,
            "prompt_tokens": draw.randrange(20, tokens), "completion_tokens": draw.randrange(5, tokens // 4),
        })  # fmt: skip
    return calls


def sent_by(sender: str, calls: list[Call], prefix: str = "", later_ms: int = 0, **more: Any) -> list[Call]:
    return [
        {**call, "request_id": prefix + call["request_id"], "sender": sender, "t_end": call["t_end"] + later_ms, **more}
        for call in calls
    ]


def findings(warehouse: Warehouse, *calls: list[Call]) -> list[SameCalls]:
    warehouse.insert("request_energy", rows("request_energy", *(call for part in calls for call in part)))
    return same_calls(operator_reader(warehouse), PERIOD)


def test_a_gateway_and_the_application_behind_it_are_named_with_their_calls(warehouse: Warehouse) -> None:
    calls = traffic()
    of_app = sent_by("otel", calls[:80], prefix="span-", later_ms=40, application="shop")
    [finding] = findings(warehouse, sent_by("litellm", calls), of_app)
    assert (finding.first, finding.second, finding.of_first, finding.of_second) == ("litellm", "otel (shop)", 120, 80)
    assert 75 <= finding.calls <= 80
    assert same_calls_sentence(finding).startswith("the same calls of workload eu/chat from two senders, litellm and ")


def test_a_way_to_stop_each_sender_is_given(warehouse: Warehouse) -> None:
    calls = traffic()
    [finding] = findings(warehouse, sent_by("otlp-logs", calls), sent_by("gateway-key", calls, prefix="x"))
    assert "# without otlp-logs: take its event out of `logs` of [produce.otlp]" in finding.stop
    assert "# without gateway-key: let the holder of the credential gateway-key" in finding.stop


def test_two_applications_of_one_sender_are_compared_too(warehouse: Warehouse) -> None:
    calls = traffic()
    both = sent_by("otel", calls, application="litellm"), sent_by("otel", calls, prefix="x", application="shop")
    [finding] = findings(warehouse, *both)
    assert (finding.first, finding.second) == ("otel (litellm)", "otel (shop)")


OTHERS = {
    "two senders of different calls": (sent_by("litellm", traffic()), sent_by("otel", traffic(seed=2))),
    "the same calls an hour apart": (
        sent_by("litellm", traffic(60)),
        sent_by("otel", [{**call, "t_end": call["t_end"] + 30_000} for call in traffic(60)], prefix="x"),
    ),
    "small prompts, which are often equal": (
        sent_by("litellm", traffic(3_000, tokens=24)), sent_by("otel", traffic(3_000, seed=2, tokens=24)),
    ),
    "a probe that is always the same": (
        sent_by("litellm", [{**call, "prompt_tokens": 8, "completion_tokens": 1} for call in traffic(900)]),
        sent_by("otel", [{**call, "prompt_tokens": 8, "completion_tokens": 1} for call in traffic(900, seed=2)]),
    ),
    "the same calls of two workloads": (
        sent_by("litellm", traffic()), sent_by("otel", traffic(), prefix="x", workload="code"),
    ),
    "a handful": (sent_by("litellm", traffic(6)), sent_by("otel", traffic(6), prefix="x")),
    "one sender": (sent_by("otel", traffic()), sent_by("otel", traffic(), prefix="x")),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_calls_that_are_alike_by_chance_are_no_finding(warehouse: Warehouse, case: str) -> None:
    assert findings(warehouse, *OTHERS[case]) == []


def test_small_prompts_that_count_twice_are_named_despite_chance(warehouse: Warehouse) -> None:
    calls = traffic(1_000, tokens=200)
    [finding] = findings(warehouse, sent_by("litellm", calls), sent_by("otel", calls, prefix="x", later_ms=15))
    assert finding.calls >= 900


def test_a_call_of_several_windows_is_one(warehouse: Warehouse) -> None:
    parts = [
        {**call, "window_start": call["window_start"] - part * WINDOW_MS, "t_start": call["t_end"] - 15_000}
        for call in traffic()
        for part in (0, 1)
    ]
    [finding] = findings(warehouse, sent_by("litellm", parts), sent_by("otel", parts, prefix="x"))
    assert (finding.of_first, finding.of_second) == (120, 120) and finding.calls <= 120


def test_a_sample_of_many_calls_suffices(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.audit.same_calls.SAMPLE_CALLS", 400)
    calls = traffic(1_000)
    [finding] = findings(warehouse, sent_by("litellm", calls), sent_by("otel", calls, prefix="x"))
    assert 700 <= finding.calls <= 1_000


def test_an_audit_with_calls_from_two_senders_is_not_complete(warehouse: Warehouse) -> None:
    calls = traffic()
    assert len(findings(warehouse, sent_by("litellm", calls), sent_by("otel", calls, prefix="x"))) == 1
    report = audit(operator_reader(warehouse), PERIOD)
    assert (report.senders_twice, len(report.same_calls), report.complete) == (1, 1, False)
