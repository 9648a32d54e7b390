"""Bills by boundary, through the whole pipeline: GPUs alone, with their host, all at the wall."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import wattlog
from tests.producers.recordings.replay import write

pytestmark = pytest.mark.slow

T0 = 1_760_954_400
SPAN = ("--from", "2025-10-20T10:00:00Z", "--to", "2025-10-20T11:00:00Z")
GPU_J, HOST_J, TOKENS = 1_200, 360, 3_300


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ledgers of a node's two GPUs with its host, and of the same GPUs alone, by name."""
    folder = tmp_path_factory.mktemp("boundary")
    tokens = write(
        folder / "tokens.csv",
        "start,end,tenant,model,prompt_tokens,completion_tokens",
        f"{T0},{T0 + 60},acme,m,1200,600",
        f"{T0},{T0 + 60},globex,m,1500,0",
    )
    gpus = [f"{T0 + s},gpu-{n},H100,{s * 10_000 + n}" for s in range(0, 61, 10) for n in (0, 1)]
    host = [f"{T0 + s},host-n1,host,{s * HOST_J * 1000 // 60 + 7}" for s in range(0, 61, 10)]
    for name, rows in {"with": [*gpus, *host], "without": gpus}.items():
        power = write(folder / f"{name}.csv", "time,gpu,hardware,energy_mj", *rows)
        ran = wattlog("replay", "csv", "--tokens", tokens, "--power", power, "--data", folder / name)
        assert ran.status == 0, ran.err
    return {name: folder / name for name in ("with", "without")}


def bill(data: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    body = wattlog("chargeback", "--json", "--data", data, *SPAN, *arguments).json
    return {row["tenant"]: row for row in [*body["rows"], {**body["total"], "tenant": "total"}]}


def test_a_bill_includes_what_its_boundary_says_exactly(fleets: dict[str, Path]) -> None:
    gpu, host, wall, measured = (
        bill(fleets["with"], *at) for at in (("--boundary", "gpu"), ("--boundary", "host"), ("--boundary", "wall"), ())
    )
    assert gpu["total"]["energy_uj"] == GPU_J * 10**6
    assert host["total"]["energy_uj"] == (GPU_J + HOST_J) * 10**6
    assert wall == host == measured
    for tenant, row in measured.items():
        assert row["energy_uj"] - row["host_uj"] == gpu[tenant]["energy_uj"]
        assert (gpu[tenant]["host_uj"], row["wall_uj"]) == (0, 0)
    assert {t: r["host_uj"] for t, r in measured.items()} == {
        "acme": 240_000_000, "globex": 120_000_000, "total": HOST_J * 10**6,
    }  # fmt: skip


def test_a_bill_says_that_only_some_nodes_have_their_host(fleets: dict[str, Path], tmp_path: Path) -> None:
    devices = (("gpu-0", "H100", "n1"), ("gpu-1", "H100", "n2"), ("host-n1", "host", "n1"))
    lines = [
        f"{T0 + s},{gpu},{hardware},{s * 1_000},{node}" for s in range(0, 61, 10) for gpu, hardware, node in devices
    ]
    power = write(tmp_path / "power.csv", "time,gpu,hardware,energy_mj,node", *lines)
    assert wattlog("replay", "csv", "--power", power, "--data", tmp_path / "d").status == 0
    for command in ("chargeback", "efficiency"):
        assert "1 of 2 nodes of csv had energy of GPUs alone" in wattlog(command, "--data", tmp_path / "d", *SPAN).err
    assert "of GPUs alone" not in wattlog("chargeback", "--boundary", "gpu", "--data", tmp_path / "d", *SPAN).err
    assert "of GPUs alone" not in wattlog("chargeback", "--data", fleets["with"], *SPAN).err


def test_joules_per_token_of_the_gpus_are_those_without_a_host(fleets: dict[str, Path]) -> None:
    alone, gpu = bill(fleets["without"]), bill(fleets["with"], "--boundary", "gpu")
    assert gpu == alone
    assert gpu["total"]["joules_per_token"] == pytest.approx(GPU_J / TOKENS)
    host = bill(fleets["with"], "--boundary", "host")
    assert host["total"]["joules_per_token"] == pytest.approx((GPU_J + HOST_J) / TOKENS)
    assert host["total"]["tokens"] == TOKENS
    assert host["total"]["requests"] == 2


def test_efficiency_and_csv_say_what_their_energy_includes(fleets: dict[str, Path]) -> None:
    out = wattlog("efficiency", "--format", "csv", "--data", fleets["with"], *SPAN).out
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["energy_uj"], row["host_uj"], row["wall_uj"]) == ("1560000000", "360000000", "0")
    assert list(row.items())[-1] == ("boundary", "all")
    out = wattlog("efficiency", "--boundary", "gpu", "--format", "csv", "--data", fleets["with"], *SPAN).out
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["energy_uj"], row["host_uj"], row["boundary"]) == ("1200000000", "0", "gpu")


def test_a_table_says_what_its_energy_includes(fleets: dict[str, Path]) -> None:
    beside = "Energy: GPUs 0.0003333 kWh, hosts 0.0001 kWh\n"
    assert wattlog("chargeback", "--data", fleets["with"], *SPAN).out.endswith(beside)
    alone = "Energy: GPUs 0.0003333 kWh; no host or wall was measured\n"
    for command in ("chargeback", "efficiency"):
        assert wattlog(command, "--data", fleets["without"], *SPAN).out.endswith(alone)
    gpus = wattlog("chargeback", "--boundary", "gpu", "--data", fleets["with"], *SPAN)
    assert gpus.out.endswith("Energy within the boundary gpu: GPUs 0.0003333 kWh\n")
    assert "measured" not in gpus.err


def test_a_bill_says_that_no_host_was_measured(fleets: dict[str, Path]) -> None:
    ran = wattlog("chargeback", "--boundary", "host", "--data", fleets["without"], *SPAN)
    assert "Energy within the boundary host: GPUs 0.0003333 kWh\n" in ran.out
    assert "No energy of hosts was measured in csv: these figures have no more than GPUs there." in ran.err
    body = wattlog("chargeback", "--boundary", "wall", "--json", "--data", fleets["with"], *SPAN).json
    assert (body["boundary"], body["clusters_outside"]) == ("wall", ["csv"])


def test_fleet_and_explanation_count_no_host_as_a_gpu(fleets: dict[str, Path]) -> None:
    rows = wattlog("fleet", "--json", "--data", fleets["with"], *SPAN).json["rows"]
    assert {r["hardware"]: (r["gpus"], r["gpu_seconds"]) for r in rows} == {"H100": (2, 120.0), "host": (0, 0.0)}
    assert all(r["mean_w"] for r in rows)
    out = wattlog("explain", "acme", "--window", "2025-10-20T10:00:30Z", "--data", fleets["with"]).out
    assert "2 GPUs measured 200,000,000 µJ" in out
    assert "1 host measured 60,000,000 µJ" in out
    assert out.count("its work / all work = 500.000 / 750.000 = 66.6667 %") == 2
    assert out.count("its tokens count at the GPUs") == 1


def test_the_audit_balances_by_part(fleets: dict[str, Path]) -> None:
    ran = wattlog("audit", "--data", fleets["with"])
    assert ran.status == 0, ran.err
    assert "GPUs: 1,200,000,000 µJ = 1,200,000,000 active + 0 idle + 0 unallocated, residual 0 µJ" in ran.out
    assert "hosts: 360,000,000 µJ = 360,000,000 active + 0 idle + 0 unallocated, residual 0 µJ" in ran.out
    assert "GPUs:" not in wattlog("audit", "--data", fleets["without"]).out
    report = wattlog("audit", "--json", "--data", fleets["with"]).json
    assert report["gpus"] == 2
    assert {part: equation["measured_uj"] for part, equation in report["parts"].items()} == {
        "gpu": GPU_J * 10**6, "host": HOST_J * 10**6,
    }  # fmt: skip


def test_a_recording_of_the_wall_is_unmetered_within_the_boundary_of_gpus(shared_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    ran = wattlog("replay", "mlperf", shared_data / "power" / "mlperf_gptj-99_Server", "--data", data)
    assert ran.status == 0, ran.err
    answer = {
        name: wattlog("chargeback", "--json", "--boundary", name, "--data", data).json for name in ("wall", "gpu")
    }
    wall, gpu = answer["wall"]["total"], answer["gpu"]["total"]
    assert wall["energy_uj"] == wall["wall_uj"] > 2_976_194 * 10**6
    assert wall["tokens"] == 7_379_136
    assert answer["wall"]["clusters_outside"] == []
    assert (gpu["energy_uj"], gpu["tokens"], gpu["joules_per_token"], answer["gpu"]["rows"]) == (0, 0, None, [])
    assert answer["gpu"]["clusters_outside"] == answer["gpu"]["clusters_excluded"] == ["mlperf"]
    for command in ("chargeback", "efficiency"):
        ran = wattlog(command, "--boundary", "host", "--data", data)
        assert "No energy within the boundary host was measured in mlperf: these figures have nothing of it." in ran.err
        assert "no more than GPUs" not in ran.err
