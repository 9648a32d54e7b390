"""Recordings through the command line, on the embedded broker and on a real Kafka: one ledger, the stated figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import KafkaBroker
from tests.kafka.deployment import forget_topics, wattlog

RECORDINGS = {
    "mlperf": "power/mlperf_gptj-99_Server",
    "azure": "traces/AzureLLMInferenceTrace_code.csv",
}


@dataclass(frozen=True)
class Replays:
    """Output of `wattlog replay --json`: on the embedded broker, on Kafka, and on the same Kafka again."""

    embedded: dict[str, Any]
    kafka: dict[str, Any]
    again: dict[str, Any]


@pytest.fixture(scope="module", params=RECORDINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def replays(
    kafka: KafkaBroker, shared_data: Path, name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replays]:
    folder = tmp_path_factory.mktemp(f"replay-{name}")
    env = {"WATTLOG_KAFKA_BOOTSTRAP": kafka.bootstrap, "WATTLOG_KAFKA_GROUP": folder.name}
    forget_topics(kafka)

    def replay(data: Path, env: dict[str, str]) -> dict[str, Any]:
        ran = wattlog("replay", name, shared_data / RECORDINGS[name], "--json", "--data", data, env=env)
        assert ran.status == 0, ran.err
        return dict(ran.json)

    embedded = replay(folder / "embedded", {})
    first, again = replay(folder / "kafka", env), replay(folder / "kafka", env)
    books = wattlog("audit", "--json", "--data", folder / "kafka", env={})
    assert books.status == 0, books.err
    yield Replays(embedded, first, again)


def test_the_embedded_broker_and_kafka_give_the_same_ledger(replays: Replays) -> None:
    assert replays.embedded == replays.kafka


def test_a_repeated_replay_changes_nothing(replays: Replays) -> None:
    assert replays.again == replays.kafka


def test_the_ledger_balances_without_losses_or_rejections(replays: Replays) -> None:
    assert replays.kafka["residual_uj"] == replays.kafka["sequence_gaps"] == replays.kafka["dead_letters"] == 0


def test_the_figures_are_those_of_the_recording(replays: Replays, name: str) -> None:
    """SOURCES.md of shared/data: MLPerf's own figures of its run; sums of the trace's columns."""
    answer = replays.kafka
    if name == "mlperf":
        assert answer["joules_per_token"] == pytest.approx(0.4036, rel=0.001)
        assert answer["energy_uj"] / 1e6 == pytest.approx(2_976_194, rel=0.0001)
    else:
        figures = (answer["requests"], answer["prompt_tokens"], answer["completion_tokens"])
        assert figures == (8_819, 18_059_974, 245_896)
        assert answer["simulated"] is True
