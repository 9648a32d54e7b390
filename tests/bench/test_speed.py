"""The harness on the in-process broker: contestants as processes, their totals compared with the input."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import speed
from bench.harness import broker as brokers
from bench.harness.backlog import Shape
from bench.harness.check import DisagreementError
from bench.harness.children import ContestantError
from bench.harness.line_up import Contestant, line_up
from bench.harness.progress import Progress

FEW = 40_000
QUIET = Progress(None, "test")


def _run(contestants: list[Contestant], folder: Path):
    with brokers.broker(folder, quick=True) as at:
        fleet = speed.fleet_for(at, 0.2)
        return speed.measure(contestants, at, fleet, folder, QUIET, repeats=1, max_rows=FEW)[0]


@pytest.mark.slow
def test_workers_and_the_ceiling_agree_on_every_tenant_and_record_figures(tmp_path: Path) -> None:
    everyone = line_up(peers=False)
    chosen = [c for c in everyone if c.shape.name == "64-packed"]
    results = _run(chosen, tmp_path)
    assert {r["name"] for r in results} == {c.name for c in chosen}
    exact = [r for r in results if r["kind"] in ("ours", "ceiling")]
    assert len(exact) >= 2
    assert all(r["tenants"] == exact[0]["tenants"] for r in exact)
    for r in results:
        assert r["rows"] >= FEW
        assert r["rows_per_cpu_s"]["least"] > 0


def test_a_contestant_that_loses_a_request_ends_the_bench(tmp_path: Path) -> None:
    thief = Contestant("thief", "part", "tests.bench.loses_a_row", Shape(512, "packed"), FEW)
    with pytest.raises(DisagreementError, match="thief"):
        _run([thief], tmp_path)


def test_a_contestant_without_a_result_is_named_with_its_output(tmp_path: Path) -> None:
    absent = Contestant("absent", "part", "tests.bench.no_such_module", Shape(512, "packed"), FEW)
    with pytest.raises(ContestantError, match=r"absent.*status 1\n.*No module named"):
        _run([absent], tmp_path)
