"""Names that do not meet: a workload with tokens and no GPU, beside one with GPUs and no tokens."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

import pytest

from contracts.units import MS_PER_HOUR, EpochMs
from tests.support.ledger_rows import HOUR, rows
from warehouse.audit.conservation import audit
from warehouse.audit.names import names_apart, recent_names_apart, sentence
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.sink.sink import Sink

PERIOD = Period(HOUR, HOUR + MS_PER_HOUR)


def tokens(workload: str, cluster: str = "eu", model: str = "llama-3") -> dict[str, Any]:
    unmetered = {"method": 3, "hardware": "", "prompt_tokens": 70, "completion_tokens": 30, "requests": 2}
    return {"cluster": cluster, "workload": workload, "model": model, **unmetered}


def gpus(workload: str, cluster: str = "eu", **more: Any) -> dict[str, Any]:
    idle = {"cluster": cluster, "workload": workload, "tenant": "__idle__", "model": "", "idle_uj": 9}
    return idle | more


def served(workload: str) -> dict[str, Any]:
    return {"workload": workload, "prompt_tokens": 5, "requests": 1, "active_uj": 7}


def lay(warehouse: Warehouse, *ledger: dict[str, Any], source: str = "litellm://eu/gw/chat") -> None:
    warehouse.insert("ledger", rows("ledger", *ledger))
    warehouse.insert("sources", rows("sources", {"topic": "wattlog.tokens.v1", "source": source}))
    clusters, workloads = {row.get("cluster", "eu") for row in ledger}, {row["workload"] for row in ledger}
    Sink(warehouse).refresh_hours([HOUR], sorted(clusters), sorted(workloads))


CASES = {
    "two names": (
        [tokens("chat"), gpus("llama")],
        ["workload eu/chat has tokens and no GPU, workload eu/llama has GPUs and no tokens: the same?"],
    ),
    "no relation between the names": (
        [tokens("chat"), gpus("w-7")],
        ["workload eu/chat has tokens and no GPU, workload eu/w-7 has GPUs and no tokens: the same?"],
    ),
    "two clusters": (
        [tokens("chat", "local"), gpus("chat", "eu"), gpus("llama", "local")],
        ["workload local/chat has tokens and no GPU, workload eu/chat has GPUs and no tokens: the same?"],
    ),
    "spelling": (
        [tokens("llama_70B", model="x"), gpus("llama-70b"), gpus("qwen")],
        ["workload eu/llama_70B has tokens and no GPU, workload eu/llama-70b has GPUs and no tokens: the same?"],
    ),
    "an organization before the name": (
        [tokens("meta/Llama-3.1-8B", model="x"), gpus("llama-3.1-8b"), gpus("llama-3.1-8b-instruct")],
        [
            "workload eu/meta/Llama-3.1-8B has tokens and no GPU, workload eu/llama-3.1-8b has GPUs and no tokens: "
            "the same?"
        ],
    ),
    "a model's name": (
        [tokens("chat", model="meta/Llama-3.1"), gpus("llama-3"), gpus("train")],
        ["workload eu/chat has tokens and no GPU, workload eu/llama-3 has GPUs and no tokens: the same?"],
    ),
    "several candidates": (
        [tokens("chat", model="m"), gpus("train-1"), gpus("train-2")],
        ["workload eu/chat has tokens and no GPU; with GPUs and no tokens: eu/train-1, eu/train-2"],
    ),
    "no candidate": (
        [tokens("chat"), served("code")],
        ["workload eu/chat has tokens and no GPU: no agent reports GPUs of this name"],
    ),
    "a training job alone": ([gpus("train"), served("code")], []),
    "an outside provider": ([tokens("external/openai"), gpus("train")], []),
    "unallocated GPUs": ([tokens("external/openai"), gpus("~n1", unallocated_uj=5)], []),
    "metered for a part of the time": ([tokens("code"), served("code"), gpus("train")], []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_workload_without_gpus_is_named_with_the_one_that_may_be_the_same(warehouse: Warehouse, case: str) -> None:
    ledger, sentences = CASES[case]
    lay(warehouse, *ledger)
    findings = names_apart(operator_reader(warehouse), PERIOD)
    assert [sentence(finding) for finding in findings] == sentences


SOURCES = [
    ("litellm", "litellm", "chat"), ("litellm-tokens", "litellm", "chat"), ("otel", "otel", "chat"),
    ("otlp-tokens", "otel", "chat"), ("otlp-logs-tokens", "otlp", "chat"), ("otlp-metrics-tokens", "otlp", "chat"),
    ("accesslog", "accesslog", "unmatched/m"), ("requests-tokens", "requests", "chat"),
    ("cloudevents-tokens", "requests", "chat"),
]  # fmt: skip
MODELS = ["llama-3", 'a "quoted" \\ name', "star*[awq]", "größe", "meta-llama/Llama-3.1-8B"]


@pytest.mark.parametrize(("kind", "options", "workload"), SOURCES)
@pytest.mark.parametrize("cluster", ["eu", "west"])
def test_the_lines_join_the_names_when_they_are_pasted_above_the_other_rules(
    warehouse: Warehouse, kind: str, options: str, workload: str, cluster: str
) -> None:
    models = ["m"] if workload.startswith("unmatched/") else MODELS
    source = f"{kind}://eu/gw/{quote(workload, safe='')}"
    lay(warehouse, *(tokens(workload, model=model) for model in models), gpus("llama", cluster), source=source)
    [finding] = names_apart(operator_reader(warehouse), PERIOD)
    if not finding.partner:  # Names that are not alike are never joined across clusters.
        assert cluster == "west"
        return
    before = f"[[produce.{options}.deployments]]\nmodel = '*'\nworkload = 'chat'\n"
    rules = tomllib.loads(f"{finding.join}\n{before}")["produce"][options]["deployments"]
    pairs = [(rule["model"], (rule.get("cluster", "eu"), rule["workload"])) for rule in rules]
    for model in models:
        assert next(place for pattern, place in pairs if fnmatchcase(model, pattern)) == (cluster, "llama")
    assert next(place for pattern, place in pairs if fnmatchcase("another", pattern)) == ("eu", "chat")


def test_the_lines_for_a_server_belong_into_its_entry(warehouse: Warehouse) -> None:
    lay(warehouse, tokens("chat"), gpus("llama"), source="vllm://eu/http/chat")
    [finding] = names_apart(operator_reader(warehouse), PERIOD)
    assert tomllib.loads(finding.join) == {"workload": "llama"}
    assert "[[produce.servers.at]]" in finding.join


def test_names_that_met_before_the_last_hour_are_recent(warehouse: Warehouse) -> None:
    lay(warehouse, served("chat"))
    later = [{**row, "window_start": HOUR + MS_PER_HOUR} for row in (tokens("chat"), gpus("llama"))]
    warehouse.insert("ledger", rows("ledger", *later))
    Sink(warehouse).refresh_hours([HOUR + MS_PER_HOUR], ["eu"], ["chat", "llama"])
    reader, end_ms = operator_reader(warehouse), HOUR + 2 * MS_PER_HOUR
    assert [finding.partner for finding in recent_names_apart(reader, end_ms)] == ["llama"]


# -- hours -------------------------------------------------------------------------------------------------------------


def lay_hours(
    warehouse: Warehouse, hours: dict[int, list[dict[str, Any]]], source: str = "litellm://eu/gw/chat"
) -> Period:
    """Store a ledger by the hour of the day, and return that day."""
    ledger = [{**row, "window_start": HOUR + n * MS_PER_HOUR} for n, part in hours.items() for row in part]
    warehouse.insert("ledger", rows("ledger", *ledger))
    warehouse.insert("sources", rows("sources", {"topic": "wattlog.tokens.v1", "source": source}))
    names = sorted({row["workload"] for row in ledger})
    Sink(warehouse).refresh_hours([HOUR + n * MS_PER_HOUR for n in hours], ["eu"], names)
    return Period(HOUR, EpochMs(HOUR + 24 * MS_PER_HOUR))


APART = {hour: [tokens("chat"), gpus("llama")] for hour in range(10, 14)}
AT = "from 2024-01-01T10:00:00.000Z to 2024-01-01T14:00:00.000Z"
THE_SAME = f"workload eu/chat has tokens and no GPU {AT}, workload eu/llama has GPUs and no tokens then: the same?"


def test_names_that_part_for_some_hours_are_found_with_the_hours(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {hour: [served("chat")] for hour in range(24)} | APART)
    [finding] = names_apart(operator_reader(warehouse), day)
    assert sentence(finding) == THE_SAME
    assert (finding.tokens, finding.requests, finding.hours_apart) == (400, 8, 4)


def test_gpus_that_had_the_name_before_are_to_get_it_back(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {hour: [served("chat")] for hour in range(24)} | APART)
    [finding] = names_apart(operator_reader(warehouse), day)
    assert tomllib.loads(finding.join) == {}
    assert "were they called eu/llama in these?" in finding.join and "WATTLOG_WORKLOAD" in finding.join


def test_a_gateway_that_left_the_name_gets_a_rule(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {hour: [served("llama")] for hour in range(24)} | APART)
    [finding] = names_apart(operator_reader(warehouse), day)
    assert sentence(finding) == THE_SAME
    [rule] = tomllib.loads(finding.join)["produce"]["litellm"]["deployments"]
    assert rule == {"model": "llama-3", "workload": "llama"}


def test_a_name_that_changes_within_an_hour_is_found_in_the_whole_hours_after(warehouse: Warehouse) -> None:
    changing = {9: [served("chat"), gpus("llama")], 14: [served("chat"), gpus("llama")]}
    day = lay_hours(warehouse, {hour: [served("chat")] for hour in range(24)} | APART | changing)
    [finding] = names_apart(operator_reader(warehouse), day)
    assert sentence(finding) == THE_SAME


@pytest.mark.parametrize("other", ["train", "code"])
def test_gpus_that_are_there_in_the_other_hours_too_are_not_the_same(warehouse: Warehouse, other: str) -> None:
    day = lay_hours(
        warehouse, {n: [served("chat") if n not in APART else tokens("chat"), gpus(other)] for n in range(24)}
    )
    [finding] = names_apart(operator_reader(warehouse), day)
    assert sentence(finding) == f"workload eu/chat has tokens and no GPU {AT}: no agent reported GPUs of this name then"
    assert tomllib.loads(finding.join) == {}


def test_gpus_of_other_hours_are_not_the_same(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {3: [gpus("w-7")], 10: [tokens("chat")], 11: [tokens("chat")]})
    [finding] = names_apart(operator_reader(warehouse), day)
    assert (finding.partner, finding.candidates) == ("", [])


def test_several_spans_of_hours_are_counted_and_the_newest_named(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {n: [tokens("chat"), gpus("llama")] if n % 2 else [served("chat")] for n in range(24)})
    [finding] = names_apart(operator_reader(warehouse), day)
    assert (finding.hours_apart, len(finding.apart)) == (12, 3)
    assert "no GPU in 12 hours, the newest from 2024-01-01T19:00:00.000Z to" in sentence(finding)


def test_an_idle_model_and_a_night_without_calls_are_no_finding(warehouse: Warehouse) -> None:
    day = lay_hours(
        warehouse, {n: [gpus("chat"), served("code")] if n < 6 else [served("chat"), gpus("code")] for n in range(24)}
    )
    assert names_apart(operator_reader(warehouse), day) == []


def test_tokens_stand_for_requests_of_a_server_that_counts_none(warehouse: Warehouse) -> None:
    counted, alone = {**tokens("chat"), "requests": 0}, {**served("code"), "requests": 0}
    lay(warehouse, counted, gpus("llama"), alone, source="mine://eu/http/chat")
    [finding] = names_apart(operator_reader(warehouse), PERIOD)
    assert (finding.workload, finding.partner, finding.tokens, finding.requests) == ("chat", "llama", 100, 0)


def test_a_period_that_cuts_an_hour_is_judged_by_hours_too(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {hour: [served("chat")] for hour in range(24)} | APART)
    [finding] = names_apart(operator_reader(warehouse), Period(EpochMs(HOUR - 1_000), EpochMs(day.end - 1_000)))
    assert sentence(finding) == THE_SAME


def test_names_that_have_met_since_are_not_recent(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {hour: [served("chat")] for hour in range(24)} | APART)
    reader = operator_reader(warehouse)
    assert recent_names_apart(reader, day.end) == []
    assert [finding.partner for finding in recent_names_apart(reader, HOUR + 14 * MS_PER_HOUR)] == ["llama"]


def test_an_audit_names_the_hours_and_is_not_complete(warehouse: Warehouse) -> None:
    day = lay_hours(warehouse, {hour: [served("chat")] for hour in range(24)} | APART)
    report = audit(operator_reader(warehouse), day)
    assert (report.workloads_without_gpu, report.complete) == (1, False)


# -- one name for several deployments ----------------------------------------------------------------------------------


def test_an_alias_for_two_deployments_gets_a_rule_for_each(warehouse: Warehouse) -> None:
    both = [tokens("chat", model="meta/Llama-3.1"), tokens("chat", model="qwen2-72b")]
    lay(warehouse, *both, gpus("llama-3"), gpus("qwen2"))
    [finding] = names_apart(operator_reader(warehouse), PERIOD)
    assert tomllib.loads(finding.join)["produce"]["litellm"]["deployments"] == [
        {"model": "meta/Llama-3.1", "workload": "llama-3"},
        {"model": "qwen2-72b", "workload": "qwen2"},
    ]


@pytest.mark.parametrize("source", ["litellm://eu/gw/chat", "vllm://eu/http/chat", "requests-tokens://eu/gw/chat"])
def test_a_choice_that_only_a_person_can_make_is_in_comments(warehouse: Warehouse, source: str) -> None:
    lay(warehouse, tokens("chat", model="m"), gpus("a-1"), gpus("a-2"), source=source)
    [finding] = names_apart(operator_reader(warehouse), PERIOD)
    assert tomllib.loads(finding.join) == {}
    assert "is open: take away the # of one" in finding.join and "WORKLOAD" not in finding.join
    chosen = finding.join.replace('# workload = "a-1"', 'workload = "a-1"')
    for line in ("[[produce.litellm.deployments]]", "[[produce.requests.deployments]]", 'model = "m"'):
        chosen = chosen.replace(f"# {line}", line, 1)
    assert 'workload = "a-1"' in chosen and 'workload = "a-2"' in chosen and tomllib.loads(chosen)


@pytest.mark.parametrize("workload", ["chat", "unmatched/m"])
@pytest.mark.parametrize("kind", ["litellm", "vllm"])
def test_tokens_beside_no_gpus_get_words_and_no_lines(warehouse: Warehouse, workload: str, kind: str) -> None:
    lay(warehouse, tokens(workload), source=f"{kind}://eu/gw/{quote(workload, safe='')}")
    [finding] = names_apart(operator_reader(warehouse), PERIOD)
    assert tomllib.loads(finding.join) == {} and "no GPUs without tokens are there" in finding.join


def test_an_audit_is_not_complete_with_a_workload_without_gpus(warehouse: Warehouse) -> None:
    lay(warehouse, tokens("chat"), gpus("llama"))
    report = audit(operator_reader(warehouse), PERIOD)
    assert (report.workloads_without_gpu, report.complete) == (1, False)
    assert [finding.partner for finding in report.names_apart] == ["llama"]
