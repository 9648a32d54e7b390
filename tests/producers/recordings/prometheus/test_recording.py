"""Months of GPU energy out of Prometheus: what is read, in which chunks, and what users have met there."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput, Unavailable
from contracts.events import Method
from contracts.units import rfc3339
from producers.gpu.exporter_formats import ALL_SMI, DCGM, KEPLER, NVIDIA_SMI
from producers.recordings.prometheus import download
from producers.recordings.prometheus.covered_time import CoveredTime
from tests.producers.recordings.prometheus.history import (
    ENERGY,
    T0,
    open_history,
    replay_history,
    steady,
)
from tests.producers.recordings.prometheus.stand_in import STALE, StandIn
from tests.producers.recordings.replay import replay, wire

GPU = {"UUID": "GPU-a", "Hostname": "n1", "modelName": "NVIDIA H100", "instance": "10.0.0.1:9400"}


@pytest.fixture
def server() -> StandIn:
    return StandIn()


def test_energy_is_the_growth_of_the_counter(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU)
    out = replay_history(server, tmp_path)
    assert sum(out.energy_uj.values()) == 300 * 600 * 1_000_000
    assert {row[4] for row in out.power_rows} == {Method.COUNTER}
    (event,) = (e for e in out.events[:1])
    assert (event.cluster, event.workload) == ("c", "~n1")


def test_each_host_label_is_a_node_and_the_product_is_the_hardware(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU)
    server.add(ENERGY, steady(watts=100), **GPU | {"UUID": "GPU-b", "Hostname": "n2"})
    server.add(ENERGY, steady(watts=50), UUID="GPU-c", instance="n3.example:9400")
    out = replay_history(server, tmp_path)
    assert {w: e / 600e6 for w, e in out.energy_uj.items()} == {"~n1": 300, "~n2": 100, "~n3.example": 50}
    gpus = {gpu for event in out.events for gpu in getattr(event.batch, "gpus", ())}
    assert gpus == {("GPU-a", "NVIDIA H100"), ("GPU-b", "NVIDIA H100"), ("GPU-c", "unknown")}


def test_labels_name_workload_and_owner(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU, exported_pod="chat-0", exported_namespace="acme")
    out = replay_history(server, tmp_path, workload_label="exported_pod", owner_label="exported_namespace")
    assert {(e.workload, e.batch.owner) for e in out.events if len(e.batch)} == {("acme/chat-0", "acme")}  # type: ignore[union-attr]


def test_workloads_of_one_name_and_several_owners_are_several_workloads(server: StandIn, tmp_path: Path) -> None:
    for uuid, owner in (("GPU-a", "acme"), ("GPU-b", "globex"), ("GPU-c", "")):
        server.add(ENERGY, steady(), **GPU | {"UUID": uuid}, exported_namespace=owner)
    out = replay_history(server, tmp_path, owner_label="exported_namespace", workload="chat")
    assert {(e.workload, e.batch.owner) for e in out.events if len(e.batch)} == {  # type: ignore[union-attr]
        ("acme/chat", "acme"), ("globex/chat", "globex"), ("chat", ""),
    }  # fmt: skip


def test_a_gpu_that_pods_share_counts_once_and_has_no_holder(server: StandIn, tmp_path: Path) -> None:
    for pod in ("chat-0", "chat-1"):
        server.add(ENERGY, steady(), **GPU, exported_pod=pod)
    recording = open_history(server, tmp_path, workload_label="exported_pod")
    assert any("1 GPU was shared" in note for note in recording.notes)
    out = replay(recording.events())
    assert out.energy_uj == {"~n1": 300 * 600 * 1_000_000}


@pytest.mark.parametrize(
    ("exporter", "series", "expected"),
    [
        (
            ALL_SMI,
            [
                ("all_smi_energy_consumed_joules_total", {"host": "g1", "gpu_uuid": "u", "scope": "gpu"}, 0.001),
                ("all_smi_energy_consumed_joules_total", {"host": "g1", "scope": "chassis"}, 0.007),
            ],
            ("g1", "u"),
        ),
        (KEPLER, [("kepler_node_gpu_joules_total", {"node_name": "k1", "gpu_uuid": "GPU-u"}, 0.001)], ("k1", "GPU-u")),
    ],
    ids=["all_smi", "kepler"],
)
def test_presets_read_their_names_units_and_hosts(
    server: StandIn, tmp_path: Path, exporter: Any, series: Any, expected: tuple[str, str]
) -> None:
    for name, labels, scale in series:
        server.add(name, [(t, mj * scale) for t, mj in steady(base_mj=1_000_000)], **labels)
    out = replay_history(server, tmp_path, exporter_format=exporter)
    assert out.energy_uj == {f"~{expected[0]}": 180_000_000_000}
    assert {row[0] for row in out.power_rows} == {expected[1]}


def test_an_index_is_an_identity_within_its_node_only(server: StandIn, tmp_path: Path) -> None:
    for host in ("n1", "n2"):
        server.add(ENERGY, steady(), UUID="0", Hostname=host)
    out = replay_history(server, tmp_path, exporter_format=replace(DCGM, prefix=""))
    assert {row[0] for row in out.power_rows} == {"n1/gpu-0", "n2/gpu-0"}


def test_watts_are_integrated_where_there_is_no_counter(server: StandIn, tmp_path: Path) -> None:
    watts = [(T0 + s, 250.5) for s in range(0, 601, 15)]
    server.add("nvidia_smi_power_draw_watts", watts, uuid="aa", instance="n1:9835")  # type: ignore[arg-type]
    server.add("nvidia_smi_gpu_info", [(t, 1) for t, _ in watts], uuid="aa", name="NVIDIA L4", instance="n1:9835")
    out = replay_history(server, tmp_path, exporter_format=NVIDIA_SMI)
    assert sum(out.energy_uj.values()) == 250_500_000 * 600
    assert {row[4] for row in out.power_rows} == {Method.INTEGRATED}
    assert {g for e in out.events for g in getattr(e.batch, "gpus", ())} == {("GPU-aa", "NVIDIA L4")}


@pytest.mark.parametrize("blank", ["NaN", "9.223372036854775794e18", STALE])
def test_a_sample_without_a_value_is_a_gap_that_the_counter_bridges(
    server: StandIn, tmp_path: Path, blank: str
) -> None:
    samples = steady()
    samples[7:9] = [(t, blank) for t, _ in samples[7:9]]
    server.add(ENERGY, samples, **GPU)
    assert sum(replay_history(server, tmp_path).energy_uj.values()) == 300 * 600 * 1_000_000


def _curve(seed: int) -> list[tuple[float, float | str]]:
    """Return a counter with random watts, missing samples and blanks; it begins and ends with a value."""
    rng, mj = random.Random(seed), 10**9
    samples: list[tuple[float, float | str]] = [(T0, mj)]
    for n in range(1, 81):
        mj += rng.randrange(50, 700) * 30_000
        match rng.randrange(6):
            case 0 if n < 80:
                samples.append((T0 + 30 * n, rng.choice(["NaN", STALE])))
            case 1 if n < 80:
                pass
            case _:
                samples.append((T0 + 30 * n, mj))
    return samples


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.integers(1, 90), target=st.integers(15, 300), killed_at=st.integers(0, 25))
def test_energy_is_the_counters_growth_for_any_chunks_and_any_kill(
    tmp_path_factory: pytest.TempPathFactory, seed: int, first: int, target: int, killed_at: int
) -> None:
    server, chunks = StandIn(), 0
    curves = {f"GPU-{n}": _curve(seed + n) for n in range(3)}
    for uuid, samples in curves.items():
        server.add(ENERGY, samples, UUID=uuid, Hostname="n1")

    def kill(point: int, points: int) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == killed_at:
            raise KeyboardInterrupt

    options = {"end_ms": (T0 + 2400) * 1000}
    with server.serving() as url, pytest.MonkeyPatch.context() as patch:
        at_once = open_history(url, tmp_path_factory.mktemp("at-once"), **options)
        folder = tmp_path_factory.mktemp("killed")
        patch.setattr(download, "FIRST_POINTS", first)
        patch.setattr(download, "TARGET_SAMPLES", target)
        with suppress(KeyboardInterrupt):
            open_history(url, folder, progress=kill, **options)
        requests = len(server.requests)
        again = open_history(url, folder, **options)
        assert killed_at <= chunks or len(server.requests) == requests  # What was downloaded is not asked for again.
    assert wire(again.events()) == wire(at_once.events())
    energies: Counter[str] = Counter()
    for gpu, _, _, energy_uj, *_ in replay(again.events()).power_rows:
        energies[gpu] += energy_uj
    assert energies == {uuid: (int(s[-1][1]) - int(s[0][1])) * 1000 for uuid, s in curves.items()}


def test_a_chunk_that_the_server_cannot_answer_is_halved(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU)
    server.max_samples = 5
    assert sum(replay_history(server, tmp_path).energy_uj.values()) == 300 * 600 * 1_000_000
    server.max_samples = 0
    with pytest.raises(Unavailable, match=r"too many samples.*Match fewer GPUs"):
        open_history(server, tmp_path / "other")


def test_no_question_has_more_points_than_prometheus_answers(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, [(T0, 5 * 10**6), (T0 + 240_000, 10**7)], **GPU)
    with pytest.raises(BadInput, match="no GPU has two samples"):
        open_history(server, tmp_path, end_ms=(T0 + 200_000) * 1000, step_s=5)
    assert max((float(r["end"]) - float(r["start"])) / 5 for r in server.requests) < 11_000


def test_a_server_that_fails_for_a_while_is_asked_again_with_longer_waits(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU)
    server.faults = [(503, "starting"), (429, "slow down"), (500, "<html>a proxy</html>")]
    waits: list[float] = []
    assert sum(replay_history(server, tmp_path, wait=waits.append).energy_uj.values()) == 300 * 600 * 1_000_000
    assert [0.5 <= w / 2**n <= 1 for n, w in enumerate(waits)] == [True] * 3


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ((401, "Unauthorized"), Unavailable, "answers 401.*--bearer-file"),
        ((404, "404 page not found"), Unavailable, "answers 404.*without /api/v1"),
        (
            (400, {"status": "error", "errorType": "bad_data", "error": "parse error: unexpected <op>"}),
            BadInput,
            "parse error: unexpected <op>",
        ),
        ((200, "<html>a login</html>"), Unavailable, "Is that Prometheus"),
        ((200, {"status": "success", "data": {"resultType": "vector", "result": []}}), BadInput, "answers a vector"),
        ((302, ""), Unavailable, "answers 302"),
    ],
)
def test_a_lasting_error_has_the_servers_text_and_is_not_tried_again(
    server: StandIn, tmp_path: Path, fault: tuple[int, object], error: type[Exception], match: str
) -> None:
    server.faults = [fault]
    with pytest.raises(error, match=match):
        open_history(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("extra", [{"warnings": ["receive series from Addr: store-2: aborted"]}, {"isPartial": True}])
def test_a_partial_answer_is_refused_unless_it_is_allowed_and_then_noted(
    server: StandIn, tmp_path: Path, extra: dict[str, object]
) -> None:
    server.add(ENERGY, steady(), **GPU)
    server.extra = extra
    with pytest.raises(Unavailable, match=r"in part only.*--allow-partial"):
        open_history(server, tmp_path)
    assert server.requests[0]["partial_response"] == "false"
    notes = open_history(server, tmp_path / "b", allow_partial=True).notes
    assert any("The server warns" in note for note in notes)


def test_a_history_without_such_series_names_them_and_what_to_check(server: StandIn, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"series named {ENERGY}.*check --format"):
        open_history(server, tmp_path)
    server.add(ENERGY, steady(), gpu="0", pod="p")
    with pytest.raises(BadInput, match="need the label UUID or uuid; they have gpu, pod"):
        open_history(server, tmp_path / "b")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"url": "prom:9090"}, "http://HOST:PORT"),
        ({"url": "http://u:p@prom"}, "leave user and password out"),
        ({"step_s": 7200}, "1 s to 3600 s"),
        ({"end_ms": T0 * 1000}, "later than --from"),
        ({"now_ms": T0 * 1000}, "lies in the future"),
        ({"matchers": ["gpu"]}, "LABEL=VALUE"),
        ({"end_ms": (T0 + 10) * 1000}, "gives 1 readings"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        open_history(options.pop("url", "http://127.0.0.1:1"), tmp_path, **options)


def test_matchers_headers_and_parameters_go_with_each_question(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU, cluster="east")
    server.add(ENERGY, steady(), **GPU | {"UUID": "GPU-b"}, cluster="west")
    out = replay_history(
        server, tmp_path, matchers=['cluster=east', 'pod!=a"b'], headers={"X-Scope-OrgID": "t"},
        parameters={"max_source_resolution": "5m"},
    )  # fmt: skip
    assert {row[0] for row in out.power_rows} == {"GPU-a"}
    assert server.requests[0]["query"] == ENERGY + r'{cluster="east",pod!="a\"b"}'
    assert {h["x-scope-orgid"] for h in server.headers} == {"t"}
    assert {r["max_source_resolution"] for r in server.requests} == {"5m"}


def test_time_without_readings_of_any_gpu_is_noted(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU)
    server.add(ENERGY, steady(300), **GPU | {"UUID": "GPU-b"})
    assert not any("asked for" in note for note in open_history(server, tmp_path / "a").notes)
    notes = open_history(server, tmp_path / "b", start_ms=(T0 - 1200) * 1000, end_ms=(T0 + 1200) * 1000).notes
    assert f"from {rfc3339(T0 * 1000)} to {rfc3339((T0 + 600) * 1000)}: 30 minutes of the 40 minutes asked" in notes[1]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1))
def test_covered_time_is_the_union_of_the_intervals(spans: list[tuple[int, int]]) -> None:
    covered = CoveredTime()
    for start_ms, length_ms in spans:
        covered.add(start_ms, start_ms + length_ms)
    assert covered.total_ms == len({t for start_ms, length_ms in spans for t in range(start_ms, start_ms + length_ms)})
    assert covered.end_ms == max(start_ms + length_ms for start_ms, length_ms in spans)


def test_a_damaged_file_of_a_download_is_named_and_downloaded_again(server: StandIn, tmp_path: Path) -> None:
    server.add(ENERGY, steady(), **GPU)
    open_history(server, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"cut")
    with pytest.raises(Unavailable, match="Run it again"):
        open_history(server, tmp_path)
    assert sum(replay_history(server, tmp_path).energy_uj.values()) == 300 * 600 * 1_000_000
