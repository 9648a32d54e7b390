"""Energy of CPUs and memory: counters that wrap around, nested zones, and what remains unknown."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts import topics
from contracts.errors import Unavailable
from contracts.events import MAX_SPAN_MS, UsageBatch
from contracts.settings import Settings
from producers.api import PollResult
from producers.host import energy
from producers.host.energy import CounterRange, HostCounterSnapshot, ZoneEnergy, counter_energy_uj
from producers.host.plugin import HostConfig
from producers.host.rapl import RaplCounters, scan_zones
from producers.host.source import HostEnergySource
from producers.host.zeusd import LEAST_RANGE_UJ, ZeusdHostCounters
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.spool import Spool
from tests.producers.conftest import first_with_rows, running
from tests.producers.frame import findings
from tests.producers.gpu.zeusd.test_sensor import NEW, OLD, Daemon
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock

RANGE = 262_143_328_850
W = 1_000.0


class Sysfs:
    """A powercap folder as the kernel has it: two packages, their parts, the same again by MMIO, and the platform."""

    def __init__(self, folder: Path, *, nested: bool = False) -> None:
        self.folder = folder
        self.at = folder / "intel-rapl" if nested else folder
        for name, called, range_uj in (
            ("intel-rapl:0", "package-0", RANGE), ("intel-rapl:0/intel-rapl:0:0", "core", RANGE),
            ("intel-rapl:0/intel-rapl:0:1", "dram", 65_712_999_613), ("intel-rapl:1", "package-1", RANGE),
            ("intel-rapl:1/intel-rapl:1:0", "dram", 65_712_999_613), ("intel-rapl:2", "psys", RANGE),
            ("intel-rapl-mmio:0", "package-0", RANGE),
        ):  # fmt: skip
            zone = self.at / name
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{called}\n")
            (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
            self.set_counter(name, 1_000)

    def set_counter(self, zone: str, uj: int) -> None:
        (self.at / zone / "energy_uj").write_text(f"{uj}\n")


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "powercap")


def snapshot(ms: int, uj: int, *, boot: str = "b", wall_ms: int | None = None) -> HostCounterSnapshot:
    return HostCounterSnapshot(boot, ms, T0 + (ms if wall_ms is None else wall_ms), {"package-0": uj})


def delta(
    before: HostCounterSnapshot,
    now: HostCounterSnapshot,
    range_uj: int = RANGE,
    *,
    wraps: bool = True,
    max_w: float = W,
) -> energy.HostEnergyDelta:
    return energy.energy_since(before, now, {"package-0": CounterRange(range_uj, wraps)}, max_w)


# from readings to rows


def test_the_energy_between_two_readings_is_the_counters_difference() -> None:
    assert delta(snapshot(0, 5), snapshot(10_000, 900_000_005)).energy == (
        ZoneEnergy("package-0", T0, T0 + 10_000, 900_000_000),
    )


def test_a_counter_is_exact_across_its_wrap() -> None:
    assert delta(snapshot(0, RANGE - 100), snapshot(10_000, 700)).energy[0].energy_uj == 800


@given(st.integers(0, RANGE - 1), st.lists(st.tuples(st.integers(1_000, 60_000), st.integers(1, 900)), max_size=50))
def test_the_sum_is_the_used_energy_for_any_number_of_wraps(start: int, readings: list[tuple[int, int]]) -> None:
    total, at_ms, before, used = start, 0, snapshot(0, start), []
    for elapsed_ms, watts in readings:
        at_ms, total = at_ms + elapsed_ms, total + watts * elapsed_ms * 1_000
        step = delta(before, snapshot(at_ms, total % RANGE))
        assert not step.unknown
        before, used = step.snapshot, [*used, *step.energy]
    assert sum(row.energy_uj for row in used) == total - start
    assert [u.t1_ms for u in used][:-1] == [u.t0_ms for u in used][1:]


def test_a_counter_that_stands_is_unknown_and_its_next_advance_covers_the_time() -> None:
    first = snapshot(0, 5)
    step = delta(first, snapshot(10_000, 5))
    assert (step.energy, step.unknown) == ((), ())
    later = delta(step.snapshot, snapshot(60_000, 5))
    assert (later.energy, later.unknown) == (
        (), ("package-0: its counter has stood for 60 s, so its energy is unknown",)
    )  # fmt: skip
    assert delta(later.snapshot, snapshot(70_000, 900_005)).energy == (
        ZoneEnergy("package-0", T0, T0 + 70_000, 900_000),
    )


def test_a_counter_that_may_have_wrapped_twice_is_reported_and_not_guessed() -> None:
    step = delta(snapshot(0, 5), snapshot(600_000, 50_000_000_000))
    assert step.energy == ()
    [why] = step.unknown
    assert "package-0, 600 s" in why
    assert "every_s" in why
    after = delta(step.snapshot, snapshot(610_000, 50_000_000_900))
    assert after.energy[0].energy_uj == 900  # It continues from there.


def test_a_gap_too_short_for_a_wrap_is_measured_whole() -> None:
    [used] = delta(snapshot(0, 5), snapshot(200_000, 80_000_000_005)).energy
    assert (used.t0_ms, used.energy_uj) == (T0, 80_000_000_000)


def test_a_counter_that_jumped_is_reported() -> None:
    assert "leapt" in delta(snapshot(0, 5), snapshot(1_000, 5_000_000_000)).unknown[0]


def test_a_counter_beyond_its_range_is_reported() -> None:
    assert "beyond its range" in delta(snapshot(0, 5), snapshot(1_000, RANGE + 5)).unknown[0]


def test_a_reboot_starts_the_counters_again() -> None:
    step = delta(snapshot(900_000, 5), snapshot(60_000, 77, boot="next"))
    assert (step.energy, step.unknown, step.snapshot.counters_uj) == ((), (), {"package-0": 77})


def test_a_zone_that_disappears_is_reported() -> None:
    assert "no longer shown" in delta(snapshot(0, 5), HostCounterSnapshot("b", 1_000, T0 + 1_000, {})).unknown[0]


@pytest.mark.parametrize(("wall_ms", "t0_ms"), [(3_600_000, 3_590_000), (-30_000, 0), (-3_600_000, -3_610_000)])
def test_rows_are_as_long_as_time_was_and_never_overlap_for_any_steps_of_the_wall_clock(
    wall_ms: int, t0_ms: int
) -> None:
    [used] = delta(snapshot(0, 5), snapshot(10_000, 905, wall_ms=wall_ms)).energy
    assert (used.t0_ms - T0, used.energy_uj) == (t0_ms, 900)
    assert 0 < used.t1_ms - used.t0_ms <= 10_000


def test_rows_are_at_most_six_hours_long_and_their_parts_sum_to_the_whole() -> None:
    used = delta(snapshot(0, 0), snapshot(MAX_SPAN_MS * 2 + 7, 1_000_003), range_uj=2**62).energy
    assert [u.t1_ms - u.t0_ms for u in used] == [MAX_SPAN_MS, MAX_SPAN_MS, 7]
    assert sum(u.energy_uj for u in used) == 1_000_003


def test_an_unwrapped_counter_that_went_back_has_restarted() -> None:
    assert counter_energy_uj(500, 5, CounterRange(RANGE, wraps=False), 1_000, W) == (None, "its counter began anew")
    assert counter_energy_uj(RANGE - 5, RANGE + 5, CounterRange(RANGE, wraps=False), 1_000, W) == (10, "")


# places of counters


@pytest.mark.parametrize("nested", [False, True])
def test_packages_and_their_memory_count_and_their_parts_do_not(tmp_path: Path, nested: bool) -> None:
    sysfs = Sysfs(tmp_path / "powercap", nested=nested)
    assert [zone.name for zone in scan_zones(sysfs.folder).zones] == [
        "package-0",
        "dram-0",
        "package-1",
        "dram-1",
        "psys",
    ]
    assert set(RaplCounters(sysfs.folder).read().counters_uj.values()) == {1_000}


def test_amds_packages_count_alike(tmp_path: Path) -> None:
    for name, called in (("intel-rapl:0", "package-0"), ("intel-rapl:0/intel-rapl:0:0", "core")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "name").write_text(called)
        (tmp_path / name / "max_energy_range_uj").write_text("65532610987")
        (tmp_path / name / "energy_uj").write_text("7")
    assert RaplCounters(tmp_path).read().counters_uj == {"package-0": 7}


def test_a_machine_without_counters_is_reported_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="intel_rapl_msr"):
        RaplCounters(tmp_path)


def test_a_counter_that_only_root_may_read_is_reported_with_the_fix(
    sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_text = Path.read_text

    def forbidden(path: Path, *args: str) -> str:  # The tests may run as root, who may read every file.
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *args)

    monkeypatch.setattr(Path, "read_text", forbidden)
    with pytest.raises(Unavailable, match=r"intel-rapl:0/energy_uj may not be read.*CVE-2020-8694.*zeusd"):
        RaplCounters(sysfs.folder).read()


@pytest.mark.parametrize("text", ["soon", "NaN", "-1", "1e400", "", "\u00e9", "9" * 5_000, str(2**63)])
def test_a_non_numeric_counter_is_named_and_the_others_are_read(sysfs: Sysfs, text: str) -> None:
    (sysfs.at / "intel-rapl:1" / "energy_uj").write_text(text)
    counters, failures = RaplCounters(sysfs.folder).read()
    assert list(counters) == ["package-0", "dram-0", "dram-1", "psys"]
    assert list(failures) == ["package-1"]
    assert "intel-rapl:1/energy_uj" in failures["package-1"]
    assert repr(text[:60]) in failures["package-1"] or "cannot be read" in failures["package-1"]


@pytest.mark.parametrize(
    ("file", "left"),
    [
        ("intel-rapl:0/name", ["package-1", "dram-1", "psys"]),
        ("intel-rapl:0/max_energy_range_uj", ["dram-0", "package-1", "dram-1", "psys"]),
        ("intel-rapl:0/intel-rapl:0:0/name", ["package-0", "dram-0", "package-1", "dram-1", "psys"]),
        ("intel-rapl:0/intel-rapl:0:1/max_energy_range_uj", ["package-0", "package-1", "dram-1", "psys"]),
    ],
)
def test_a_malformed_zone_is_left_out_and_the_others_are_read(sysfs: Sysfs, file: str, left: list[str]) -> None:
    (sysfs.at / file).unlink()
    (sysfs.at / file).mkdir()  # It cannot be read, not even by root.
    readings = RaplCounters(sysfs.folder).read()
    assert list(readings.counters_uj) == left
    [reason] = readings.failures.values()
    assert file in reason


def test_a_zone_that_becomes_readable_is_read_from_then_on(sysfs: Sysfs) -> None:
    (sysfs.at / "intel-rapl:1" / "max_energy_range_uj").write_text("soon")
    counters = RaplCounters(sysfs.folder)
    assert list(counters.read().failures) == ["package-1"]
    (sysfs.at / "intel-rapl:1" / "max_energy_range_uj").write_text(str(RANGE))
    assert counters.read().counters_uj["package-1"] == 1_000
    assert "package-1" in counters.ranges


def test_a_container_that_hides_the_kernels_folder_is_reported_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "hidden")
    with pytest.raises(Unavailable, match="mount the node's /sys/devices/virtual/powercap"):
        RaplCounters(tmp_path)


def test_zones_of_one_name_are_read_by_path_and_summed(sysfs: Sysfs) -> None:
    for name, called in (("intel-rapl:0/intel-rapl:0:2", "dram"), ("intel-rapl:3", "package-0")):
        (sysfs.at / name).mkdir()
        (sysfs.at / name / "name").write_text(called)
        (sysfs.at / name / "max_energy_range_uj").write_text(str(RANGE))
        sysfs.set_counter(name, RANGE - 500)
    host = HostEnergySource(RaplCounters(sysfs.folder), "east", "n1", "boot")
    first = collect(host, None, 0)
    for name in ("intel-rapl:0", "intel-rapl:3", "intel-rapl:0/intel-rapl:0:1", "intel-rapl:0/intel-rapl:0:2"):
        sysfs.set_counter(name, 3_000)
    second = collect(host, first.checkpoint, 10_000)
    sums = {"package-0": "5500", "dram-0": "5500"}  # The counters of the others stand.
    assert zone_energy(second) == {name: (0, uj) for name, uj in sums.items()}
    (sysfs.at / "intel-rapl:3" / "energy_uj").write_text("soon")
    sysfs.set_counter("intel-rapl:0", 3_007)
    third = collect(host, second.checkpoint, 20_000)
    assert zone_energy(third)["package-0"] == (10_000, "7")
    assert any("package-0@intel-rapl:3" in reason for reason in third.refused)


def test_a_psys_above_the_limit_names_the_limits_setting(sysfs: Sysfs) -> None:
    host = HostEnergySource(RaplCounters(sysfs.folder), "east", "n1", "boot")
    first = collect(host, None, 0)
    sysfs.set_counter("intel-rapl:2", 1_000 + 11_000 * 2_000_000)
    [reason] = collect(host, first.checkpoint, 10_000).refused
    assert "psys" in reason
    assert "2000 W" in reason
    assert "`max_zone_w`" in reason


def test_doctor_shows_a_zone_that_cannot_be_read(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_HOST_POWERCAP", str(sysfs.folder))
    (sysfs.at / "intel-rapl:1" / "energy_uj").write_text("soon")
    (_, state), (zone, error) = findings("host", Settings())
    assert "package-0" in str(state)
    assert zone == "package-1"
    assert isinstance(error, Unavailable)
    assert "'soon'" in str(error)


def test_a_machine_without_numeric_counters_is_unavailable(sysfs: Sysfs) -> None:
    for file in sysfs.at.rglob("energy_uj"):
        file.write_text("soon")
    with pytest.raises(Unavailable, match="'soon'"):
        RaplCounters(sysfs.folder).read()


def test_a_zone_that_is_unreadable_for_a_while_loses_no_energy(sysfs: Sysfs) -> None:
    host = HostEnergySource(RaplCounters(sysfs.folder), "east", "n1", "boot")
    first = collect(host, None, 0)
    (sysfs.at / "intel-rapl:0" / "energy_uj").write_text("soon")
    sysfs.set_counter("intel-rapl:1", 2_000)
    second = collect(host, first.checkpoint, 10_000)
    assert zone_energy(second) == {"package-1": (0, "1000")}
    assert len(second.refused) == 1
    sysfs.set_counter("intel-rapl:0", 8_000)
    third = collect(host, second.checkpoint, 20_000)
    assert zone_energy(third) == {"package-0": (0, "7000")}
    sysfs.set_counter("intel-rapl:1", 2_500)
    assert zone_energy(collect(host, third.checkpoint, 30_000)) == {"package-1": (10_000, "500")}


def zone_energy(collected: PollResult) -> dict[str, tuple[int, str]]:
    """Return (start counted from T0, energy) by zone."""
    [tokens] = collected.batches
    batch = tokens.batch
    assert isinstance(batch, UsageBatch)
    zones = [d["zone"] for d in batch.dimensions]
    return {z: (int(t) - T0, q) for z, t, q in zip(zones, batch.t0_ms, batch.quantity, strict=True)}


def test_a_cpu_that_zeusd_cannot_read_affects_no_other(tmp_path: Path) -> None:
    daemon = Daemon({"gpus": [], "cpus": [{"id": 0}, {"id": 1}]})
    daemon.cpus = {0: {"cpu_energy_uj": 7}, 1: {"cpu_energy_uj": 2**63}}
    counters, failures = ZeusdHostCounters(daemon.client(), tmp_path).read()
    assert counters == {"package-0": 7}
    assert list(failures) == ["package-1"]


def test_zeusds_packages_have_numbers_and_the_smallest_range_is_assumed(tmp_path: Path) -> None:
    daemon = Daemon(OLD)
    daemon.cpus = {0: {"cpu_energy_uj": 7, "dram_energy_uj": 3}}
    host = ZeusdHostCounters(daemon.client(), tmp_path)
    assert host.read().counters_uj == {"package-0": 7, "dram-0": 3}
    assert host.ranges["dram-0"] == CounterRange(LEAST_RANGE_UJ, wraps=False)


def test_a_zeusd_on_this_machine_has_the_kernels_names_and_ranges(sysfs: Sysfs) -> None:
    daemon = Daemon({**NEW, "cpus": [{"id": i, "dram_available": False} for i in range(3)]})
    daemon.cpus = {i: {"cpu_energy_uj": 7, "dram_energy_uj": None} for i in range(3)}
    host = ZeusdHostCounters(daemon.client(f"unix://{sysfs.folder}"), sysfs.folder)
    assert list(host.read().counters_uj) == ["package-0", "package-1", "psys"]  # Not a third package.
    assert host.ranges["package-1"] == CounterRange(RANGE, wraps=False)


def test_a_zeusd_without_cpus_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--enable cpu-read"):
        ZeusdHostCounters(Daemon({"gpus": [], "cpus": []}).client(), tmp_path)


# on the log


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.db")) as spool:
        yield spool


def collect(host: HostEnergySource, mark: bytes | None, ms: int) -> PollResult:
    time = FakeClock(10**9)
    time.now_ms = ms
    return host.collect(mark, time)


def test_a_killed_producer_continues_from_the_checkpoint_of_its_counters(sysfs: Sysfs, spool: Spool) -> None:
    log, energies = FakeBroker(), []
    for run in range(3):  # Each run reads twice, 10 s apart, and is killed.
        time = FakeClock(10**9)
        time.now_ms = run * 60_000
        host = HostEnergySource(RaplCounters(sysfs.folder), "east", "n1", "boot")
        delivery = Delivery(spool, log)
        collector = PollLoop([host], delivery, time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry()))
        for _ in range(2):
            sysfs.set_counter("intel-rapl:0", 1_000 + time.now_ms * 100_000)
            collector.poll_due()
            time.now_ms += 10_000
        delivery.pump()
    for event in log.stored:
        assert isinstance(event.batch, UsageBatch)
        energies += [int(q) for q, d in zip(event.batch.quantity, event.batch.dimensions, strict=True)
                     if d["zone"] == "package-0"]  # fmt: skip
    assert energies == [1_000_000_000, 5_000_000_000, 1_000_000_000, 5_000_000_000, 1_000_000_000]


def test_a_row_names_its_zone_and_node_and_is_always_the_same(sysfs: Sysfs) -> None:
    host = HostEnergySource(RaplCounters(sysfs.folder), "east", "n1", "boot")
    first = collect(host, None, 0)
    assert list(first.batches) == []
    sysfs.set_counter("intel-rapl:2", 5_000)
    [row], [again] = (collect(host, first.checkpoint, 10_000).batches for _ in range(2))
    batch = row.batch
    assert isinstance(batch, UsageBatch)
    batch.check()
    assert (row.cluster, row.workload) == ("east", "~n1")
    assert set(zip(batch.meter, batch.unit, batch.tenant, strict=True)) == {("host_energy_uj", "uJ", "")}
    assert batch.quantity == ("4000",)
    assert batch.dimensions[0] == {"node": "n1", "zone": "psys", "source": "rapl"}
    assert set(batch.origin) == {"host://east/n1/~n1"}
    assert batch.event_id[0] == f"rapl/psys/{T0}-{T0 + 10_000}"
    assert again.batch.event_id == batch.event_id  # type: ignore[union-attr]


def test_unknown_energy_is_counted_and_reported(sysfs: Sysfs) -> None:
    host = HostEnergySource(RaplCounters(sysfs.folder), "east", "n1", "boot")
    first = collect(host, None, 0)
    result = collect(host, first.checkpoint, 3_600_000)
    assert (list(result.batches), len(result.refused)) == ([], 5)


def test_the_producer_meters_from_the_kernels_files_to_the_log(
    sysfs: Sysfs, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_HOST_POWERCAP", str(sysfs.folder))
    monkeypatch.setenv("WATTLOG_HOST_EVERY_S", "1")
    stop = threading.Event()
    settings = Settings(data=tmp_path, kafka_bootstrap=broker, cluster="east", node="n1")

    def draw() -> None:
        for uj in range(2_000, 10**9, 1_000):
            for zone in zones:
                sysfs.set_counter(zone, uj)
            if stop.wait(0.05):
                return

    zones = [str(path.parent.relative_to(sysfs.at)) for path in sysfs.at.rglob("energy_uj")]
    with running("host", settings, stop):
        drawing = threading.Thread(target=draw)
        drawing.start()
        event = first_with_rows(broker, topics.USAGE)
        stop.set()
        drawing.join()
    assert (event.source, event.workload) == ("host://east/n1/~n1", "~n1")
    assert isinstance(event.batch, UsageBatch)
    assert len(event.batch) == 5


def test_doctor_lists_the_zones(sysfs: Sysfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    assert findings("host", Settings()) == []
    monkeypatch.setenv("WATTLOG_HOST_POWERCAP", str(sysfs.folder))
    [(where, text)] = findings("host", Settings())
    assert where == str(sysfs.folder)
    assert str(text).startswith("rapl: dram-0, dram-1, package-0, package-1, psys (psys holds")
    monkeypatch.setenv("WATTLOG_HOST_POWERCAP", str(tmp_path))
    [(_, text)] = findings("host", Settings())
    assert isinstance(text, Unavailable)


def test_the_maximal_power_of_a_zone_limits_the_length_of_a_gap() -> None:
    config = HostConfig(max_zone_w=200)
    assert counter_energy_uj(0, 5, CounterRange(RANGE), 1_000_000, config.max_zone_w) == (5, "")
    assert counter_energy_uj(0, 5, CounterRange(RANGE), 1_000_000, W)[0] is None
