"""HPE Cray's pm_counters as a source of a node's energy."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import Unavailable
from contracts.settings import Settings
from producers.api import PollResult
from producers.host.pm_counters import PmCounters
from producers.host.source import HostEnergySource
from tests.producers.frame import findings
from tests.producers.host.test_host import collect, zone_energy

FILE_WATTS = {"energy": 2_000, "cpu_energy": 300, "memory_energy": 100, "accel0_energy": 700, "accel1_energy": 700}


class Blade:
    """A folder of pm_counters: the node draws 2 kW, its CPU 300 W, its memory 100 W, each of two accelerators 700 W."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("power", "2000 W 1700000000000000 us"), ("power_cap", "0 W"), ("version", "2"),
                           ("generation", "7"), ("raw_scan_hz", "10")):  # fmt: skip
            (folder / name).write_text(text + "\n")
        self.startup, self.begin_s = 1_600_000_000_000_000, 0
        self.scan(0)

    def scan(self, second: int, freshness: int | None = None) -> None:
        """Show the counters of a second."""
        for name, watts in FILE_WATTS.items():
            self.write(name, f"{watts * (second - self.begin_s)} J {self.startup + second * 1_000_000} us")
        self.write("startup", f"{self.startup} us")
        self.write("freshness", str(second * 10 if freshness is None else freshness))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text + "\n")


@pytest.fixture
def blade(tmp_path: Path) -> Blade:
    return Blade(tmp_path / "pm_counters")


def source(blade: Blade) -> HostEnergySource:
    return HostEnergySource(PmCounters(blade.folder), "east", "n1", "boot", max_zone_w=10_000)


def watts(result: PollResult, seconds: int = 10) -> dict[str, float]:
    return {zone: int(energy) / 1_000_000 / seconds for zone, (_, energy) in zone_energy(result).items()}


ALL = {"node": 2_000, "cpu": 300, "memory": 100, "accel0": 700, "accel1": 700}


def test_the_node_and_its_parts_are_zones_of_their_own(blade: Blade) -> None:
    host = source(blade)
    first = collect(host, None, 0)
    blade.scan(10)
    second = collect(host, first.checkpoint, 10_000)
    assert watts(second) == ALL
    [batch] = second.batches
    assert {d["source"] for d in batch.batch.dimensions} == {"pm_counters"}  # type: ignore[union-attr]


def test_files_that_stand_show_nothing_and_the_next_reading_covers_the_time(blade: Blade) -> None:
    host = source(blade)
    first = collect(host, None, 0)
    with pytest.raises(Unavailable, match="stands: its freshness is 0 still"):
        collect(host, first.checkpoint, 10_000)
    blade.scan(20)
    assert watts(collect(host, first.checkpoint, 20_000), 20) == ALL


@pytest.mark.parametrize("second", [11, 500])
def test_a_restarted_controller_has_new_counters(blade: Blade, second: int) -> None:
    """Also where they have passed their last values."""
    host = source(blade)
    first = collect(host, None, 0)
    blade.scan(10)
    before = collect(host, first.checkpoint, 10_000)
    blade.startup, blade.begin_s = blade.startup + 10_000_000, 10
    blade.scan(second)
    reset = collect(host, before.checkpoint, second * 1_000)
    assert list(reset.batches) == []
    assert [reason for reason in reset.refused if "began anew" in reason]
    blade.scan(second + 10)
    assert watts(collect(host, reset.checkpoint, (second + 10) * 1_000)) == ALL


def test_a_freshness_that_went_back_is_a_new_start(blade: Blade) -> None:
    host = source(blade)
    blade.scan(10, freshness=900)
    first = collect(host, None, 10_000)
    blade.scan(20, freshness=5)
    second = collect(host, first.checkpoint, 20_000)
    assert list(second.batches) == []
    assert len(second.refused) == 1
    blade.scan(30, freshness=105)
    assert watts(collect(host, second.checkpoint, 30_000)) == ALL


def test_a_killed_producer_continues_from_its_checkpoint(blade: Blade) -> None:
    first = collect(source(blade), None, 0)
    blade.scan(60)
    assert watts(collect(source(blade), first.checkpoint, 60_000), 60) == ALL


@pytest.mark.parametrize("text", ["soon", "", "12 W", "-5 J", "1e9 J", "5", "9" * 30 + " J"])
def test_a_malformed_counter_is_named_and_the_others_are_read(blade: Blade, text: str) -> None:
    blade.write("cpu_energy", text)
    readings = PmCounters(blade.folder).read()
    assert readings.counters_uj.keys() == ALL.keys() - {"cpu"}
    assert "cpu_energy" in readings.failures["cpu"]


def test_files_that_change_while_they_are_read_are_read_again(blade: Blade, monkeypatch: pytest.MonkeyPatch) -> None:
    counters, number, seen = PmCounters(blade.folder), PmCounters._number, []

    def moving(self: PmCounters, file: str) -> int:
        seen.append(file)
        return number(self, file) + (len(seen) if len(seen) < limit else 0)

    monkeypatch.setattr(PmCounters, "_number", moving)
    limit = 3
    assert counters.read().counters_uj.keys() == ALL.keys()
    limit = 1_000
    with pytest.raises(Unavailable, match="changes while it is read"):
        counters.read()


def test_a_node_without_them_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="HPE Cray"):
        PmCounters(tmp_path / "none")
    with pytest.raises(Unavailable, match="no energy counter"):
        PmCounters(tmp_path)


def test_doctor_shows_the_zones_and_what_may_not_be_added(blade: Blade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_HOST_PM_COUNTERS", str(blade.folder))
    [(where, state)] = findings("host", Settings())
    assert where == str(blade.folder)
    assert str(state) == "pm_counters: accel0, accel1, cpu, memory, node (node holds the others: never add it to them)"
