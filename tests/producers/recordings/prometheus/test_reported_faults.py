"""Faults of histories that users of dcgm-exporter, Prometheus, Thanos and VictoriaMetrics have reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.events import Method
from tests.producers.recordings.prometheus.history import ENERGY, POWER, T0, open_history, replay_history, steady
from tests.producers.recordings.prometheus.stand_in import STALE, StandIn
from tests.producers.recordings.replay import Replayed, replay

UJ_PER_S = 300_000_000
GPU = {"UUID": "GPU-a", "Hostname": "n1"}


@pytest.fixture
def server() -> StandIn:
    return StandIn()


def total_uj(out: Replayed) -> int:
    return sum(out.energy_uj.values())


def flat(first_s: int, last_s: int, watts: float = 300, step_s: int = 30) -> Any:
    return [(T0 + s, watts) for s in range(first_s, last_s + 1, step_s)]


@pytest.mark.parametrize("ends", ["staleness marker", "nothing"])
def test_pods_that_follow_each_other_on_a_gpu_are_one_gpu(server: StandIn, tmp_path: Path, ends: str) -> None:
    """dcgm-exporter 237 and 340. Remote write leaves no staleness marker: the old series overlaps the new one."""
    for name, samples in ((ENERGY, steady()), (POWER, flat(0, 600))):
        for n, pod in enumerate(("chat-0", "chat-1", "chat-2")):
            part = samples[7 * n : 7 * n + 7]
            marker = [(part[-1][0] + 30, STALE)] if ends == "staleness marker" else []
            server.add(name, part + marker, **GPU, exported_pod=pod)
    out = replay_history(server, tmp_path, workload_label="exported_pod")
    assert total_uj(out) == 600 * UJ_PER_S
    assert set(out.energy_uj) - {"~n1"} == {"chat-0", "chat-1", "chat-2"}
    assert {row[4] for row in out.power_rows} == {Method.COUNTER}


def test_replicas_of_a_pair_that_scrape_at_other_times_and_miss_scrapes_are_one_gpu(
    server: StandIn, tmp_path: Path
) -> None:
    """Thanos 981 and 7364: one replica has gaps. They are filled by the other."""
    samples = steady(step_s=1)
    server.add(ENERGY, [s for s in samples[::30] if not 150 < s[0] - T0 < 420], **GPU, prometheus_replica="a")
    server.add(ENERGY, samples[17::30], **GPU, prometheus_replica="b")
    recording = open_history(server, tmp_path)
    out = replay(recording.events())
    assert total_uj(out) == 600 * UJ_PER_S
    assert not any("gaps" in note for note in recording.notes)


def test_a_reset_that_one_replica_shows_later_counts_no_energy_twice(server: StandIn, tmp_path: Path) -> None:
    """Thanos 1326: the replicas disagree for some scrapes, which inflates rates."""
    before, after = steady()[:11], [(t, mj - 10**9 - 90_000_000) for t, mj in steady()[11:]]
    server.add(ENERGY, before + after, **GPU, replica="a")
    server.add(ENERGY, before + [(t, before[-1][1]) for t, _ in after[:2]] + after[2:], **GPU, replica="b")
    server.add(POWER, flat(0, 600), **GPU, replica="a")
    out = replay_history(server, tmp_path)
    assert total_uj(out) == pytest.approx(600 * UJ_PER_S, rel=0.001)


def test_a_counter_that_goes_back_for_a_moment_was_a_dip(server: StandIn, tmp_path: Path) -> None:
    """Prometheus 13950: one sample is less by one than the sample before it; `increase` counts the whole again."""
    samples = steady()
    samples[9] = samples[9][0], samples[8][1] - 1
    server.add(ENERGY, samples, **GPU)
    assert total_uj(replay_history(server, tmp_path)) == 600 * UJ_PER_S


def test_two_exporters_of_one_gpu_count_it_once(server: StandIn, tmp_path: Path) -> None:
    """gpu-monitoring-tools 174: one exporter knows the pods, the other does not."""
    for labels in ({"job": "gpu-operator", "exported_pod": "chat-0"}, {"job": "standalone"}):
        server.add(ENERGY, steady(), **GPU, **labels)
        server.add(POWER, flat(0, 600), **GPU, **labels)
    assert total_uj(replay_history(server, tmp_path)) == 600 * UJ_PER_S


@pytest.mark.parametrize(
    ("first", "second", "nodes"),
    [
        (
            {"Hostname": "dcgm-x1", "pod": "dcgm-x1", "node": "n1", "instance": "10.1.0.1:9400"},
            {"Hostname": "dcgm-x2", "pod": "dcgm-x2", "node": "n1", "instance": "10.1.0.2:9400"},
            {"~n1"},
        ),
        ({"Hostname": "localhost", "instance": "n1:9400"}, {"Hostname": "localhost", "instance": "n1:9401"}, {"~n1"}),
        ({"Hostname": "n1"}, {"Hostname": "n2"}, {"~n1", "~n2"}),
    ],
    ids=["pods of the exporter", "localhost", "moved"],
)
def test_an_exporter_that_restarts_under_another_name_is_bridged(
    server: StandIn, tmp_path: Path, first: dict[str, str], second: dict[str, str], nodes: set[str]
) -> None:
    """dcgm-exporter 78, 129 and 572: the host label is the exporter's pod, or `localhost`."""
    samples = steady()
    server.add(ENERGY, samples[:9], UUID="GPU-a", **first)
    server.add(ENERGY, samples[14:], UUID="GPU-a", **second)
    out = replay_history(server, tmp_path)
    assert total_uj(out) == 600 * UJ_PER_S
    assert set(out.energy_uj) == nodes


def test_a_page_that_stands_after_a_restart_of_the_host_engine_is_bridged(server: StandIn, tmp_path: Path) -> None:
    """gpu-monitoring-tools 188: the exporter goes on to serve its last values."""
    samples = steady(3_600)
    samples[20:60] = [(t, samples[20][1]) for t, _ in samples[20:60]]
    server.add(ENERGY, samples, **GPU)
    server.add(POWER, flat(0, 3_600), **GPU)
    out = replay_history(server, tmp_path, end_ms=(T0 + 3_600) * 1000)
    assert total_uj(out) == 3_600 * UJ_PER_S
    for _, t0_ms, t1_ms, energy_uj, _, _ in out.power_rows:
        assert energy_uj == UJ_PER_S * (t1_ms - t0_ms) // 1000


def test_watts_of_a_node_that_went_away_end_soon_after_it(server: StandIn, tmp_path: Path) -> None:
    """Prometheus 398 and VictoriaMetrics 644: without a staleness marker, the last sample is repeated."""
    server.add(POWER, flat(0, 300), **GPU)
    server.add(POWER, flat(0, 3_600), UUID="GPU-b", Hostname="n2")
    out = replay_history(server, tmp_path, end_ms=(T0 + 3_600) * 1000)
    assert 300 * UJ_PER_S <= out.energy_uj["~n1"] <= (300 + 120) * UJ_PER_S
    assert out.energy_uj["~n2"] == 3_600 * UJ_PER_S


@pytest.mark.parametrize("step_s", [15, 60, 300, 1_800])
def test_any_step_gives_the_same_energy(server: StandIn, tmp_path: Path, step_s: int) -> None:
    """Prometheus' `increase` extrapolates, so its sum depends on the step."""
    server.add(ENERGY, steady(7_200, watts=317), **GPU)
    server.add(POWER, flat(0, 7_200, 317), **GPU)
    out = replay_history(server, tmp_path, end_ms=(T0 + 7_200) * 1000, step_s=step_s)
    assert total_uj(out) == 7_200 * 317 * 1_000_000
