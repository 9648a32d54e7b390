"""Sources of a node's energy: kernel files, a BMC, pages of PDUs; their settings, and what the doctor shows of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from contracts import topics
from contracts.boundary import HOST, WALL_LESS_GPUS
from contracts.errors import BadInput, BadSetting, Unavailable
from contracts.events import Event, PowerBatch
from contracts.settings import Settings
from producers.boundary.hwmon import HwmonPower
from producers.boundary.meters import WattsMeter, device_of
from producers.boundary.pages import Redfish, json_watts, page_watts
from producers.boundary.plugin import BoundaryConfig, check, meter_of, open_meter, source_of
from producers.boundary.reading import BackgroundReader, DirectReader
from producers.gpu.exporter_formats import Quantity
from producers.runtime.config import load
from producers.runtime.spool import Spool
from tests.producers.boundary.stand_ins import Gpus, agent_of, energy_by, grace, powercap
from tests.producers.conftest import first_with_rows, running
from tests.producers.frame import environment, findings
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock, clock_at
from tests.support.http_server import Request, Response, serving
from tests.support.waiting import HANG_S, wait_until

GRACE_HOPPER = {
    "Module Power Socket 0": b"700000000\n", "Grace Power Socket 0": b"123456789\n",
    "CPU Power Socket 0": b"90000000\n", "SysIO Power Socket 0": b"9000000\n",
}  # fmt: skip


def get_of(pages: Mapping[str, object]) -> Callable[[str], tuple[int, str]]:
    """Return a GET of these documents by address; another is not there."""
    return lambda url: (200, json.dumps(pages[url])) if url in pages else (404, "")


# Grace


@pytest.mark.parametrize("below", ["device", "."])
def test_grace_is_read_with_its_memory_and_never_with_the_module(tmp_path: Path, below: str) -> None:
    assert HwmonPower(grace(tmp_path, GRACE_HOPPER, below=below)).watts() == 123.456789


def test_sockets_are_summed(tmp_path: Path) -> None:
    meters = {"Grace Power Socket 0": b"100000000", "Grace Power Socket 1": b"50500000", "CPU Power Socket 0": b"7"}
    assert HwmonPower(grace(tmp_path, meters)).watts() == 150.5


def test_without_graces_own_meter_the_cpus_counts(tmp_path: Path) -> None:
    assert HwmonPower(grace(tmp_path, {"CPU Power Socket 0": b"80000000", "Module Power Socket 0": b"9"})).watts() == 80


def test_a_module_alone_is_no_host(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"No power meter under .* is a CPU's"):
        HwmonPower(grace(tmp_path, {"Module Power Socket 0": b"9"})).watts()


def test_a_socket_that_cannot_be_read_leaves_no_part_of_the_sum(tmp_path: Path) -> None:
    power = HwmonPower(grace(tmp_path, {"Grace Power Socket 0": b"5", "Grace Power Socket 1": b"5"}))
    power.watts()
    grace(tmp_path, {"Grace Power Socket 0": b"-1"})
    with pytest.raises(Unavailable, match="It should be microwatts"):
        power.watts()


# A BMC


BASE = "https://bmc/redfish/v1/Chassis"


def test_redfish_reads_the_environment_metrics_of_the_only_chassis() -> None:
    pages = {
        BASE: {"Members": [{"@odata.id": "/redfish/v1/Chassis/1U"}]},
        f"{BASE}/1U/EnvironmentMetrics": {"PowerWatts": {"Reading": 812.5}, "EnergykWh": {"Reading": 7}},
    }
    assert Redfish("https://bmc/", "", get_of(pages)).watts() == 812.5


@pytest.mark.parametrize("metrics", [None, {"TemperatureCelsius": {"Reading": 30}}, {"PowerWatts": {"Reading": None}}])
def test_redfish_falls_back_to_the_power_resource(metrics: object) -> None:
    pages = {f"{BASE}/1/Power": {"PowerControl": [{"PowerConsumedWatts": 344, "PowerCapacityWatts": 1600}]}}
    if metrics is not None:
        pages[f"{BASE}/1/EnvironmentMetrics"] = metrics  # type: ignore[assignment]
    assert Redfish("https://bmc", "1", get_of(pages)).watts() == 344


def test_a_redirect_to_the_same_resource_with_a_slash_is_followed() -> None:
    pages = {f"{BASE}/1/EnvironmentMetrics/": {"PowerWatts": {"Reading": 50}}}
    get = get_of(pages)
    assert Redfish("https://bmc", "1", lambda url: get(url) if url.endswith("/") else (308, "")).watts() == 50


def test_several_chassis_need_a_name() -> None:
    members = [{"@odata.id": f"/redfish/v1/Chassis/{name}"} for name in ("BMC_0", "HGX_Chassis_0")]
    with pytest.raises(Unavailable, match=r"BMC_0, HGX_Chassis_0. Name the node's \(`chassis`\)"):
        Redfish("https://bmc", "", get_of({BASE: {"Members": members}})).watts()


def test_a_chassis_without_power_is_named() -> None:
    with pytest.raises(Unavailable, match="1 shows no power"):
        Redfish("https://bmc", "1", get_of({f"{BASE}/1/Power": {"PowerControl": []}})).watts()


def test_a_chassis_that_is_not_there_is_named_beside_those_that_are() -> None:
    members = [{"@odata.id": "/redfish/v1/Chassis/Self"}]
    with pytest.raises(Unavailable, match=r"There is no chassis 1 at https://bmc, but Self. Name the node's"):
        Redfish("https://bmc", "1", get_of({BASE: {"Members": members}})).watts()


def test_a_bmc_gets_user_and_password_and_no_error_shows_them(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def answer(request: Request) -> Response:
        seen.append(request.headers.get("authorization", ""))
        return Response(401, b"")

    with serving(answer) as url:
        options = BoundaryConfig(wall="redfish", at=url, chassis="1", user="monitor", password="secret")  # type: ignore[arg-type]
        [(place, error)] = check(options, environment(Settings(node="n1")))
    assert (place, seen) == (url, ["Basic bW9uaXRvcjpzZWNyZXQ="])
    assert "answers 401: it refuses user 'monitor'. Check `password` (WATTLOG_BOUNDARY_PASSWORD)" in str(error)
    assert "secret" not in caplog.text + str(error)


def test_a_bmc_that_hangs_delays_no_sample(tmp_path: Path) -> None:
    """The BMC answers once, and then never: the GPUs are sampled and published all the while."""
    end, hangs = threading.Event(), threading.Event()
    calls: list[int] = []

    def watts() -> float:
        calls.append(1)
        if len(calls) > 1:
            hangs.set()
            end.wait(HANG_S)
        return 1_000.0

    time = FakeClock(10**9)
    log = FakeBroker(time)
    reader = BackgroundReader(watts, "bmc", 0.0)
    meter = WattsMeter("redfish", device_of("n1", WALL_LESS_GPUS), reader, 1_000)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        agent = agent_of(time, Gpus({"a": 300}), log, spool, meter)
        agent.sample()
        time.now_ms += 1_000
        agent.sample()
        wait_until(hangs.is_set)
        for _ in range(600):
            time.now_ms += 1_000
            agent.sample()
        agent.publish()
        agent.publish()
    end.set()
    reader.close()
    assert energy_by(log.stored) == {("~n1", "H100"): 601 * 300 * 1_000_000}


def test_a_bmc_that_always_says_0_w_is_named_and_has_no_energy() -> None:
    meter = WattsMeter("redfish", device_of("n1", WALL_LESS_GPUS), DirectReader(lambda: 0.0), 1_000)
    state, refused = b"", list[str]()
    for s in range(20):
        spans, state, more = meter.measure(state, clock_at(1_000 * s))
        refused += more
        assert not spans
    assert set(refused) == {"0 W, as at each reading so far, is implausible, and taken as unknown"}


def test_watts_that_stand_for_half_an_hour_are_unknown_until_they_move_also_after_a_restart() -> None:
    state, energy_uj, refused = b"", 0, list[str]()
    for s in range(0, 4_001, 5):
        # Each reading is of another run: since when the watts stand is in the stored state.
        reader = DirectReader(lambda s=s: 800.0 if s < 3_600 else 810.0)  # type: ignore[misc]
        meter = WattsMeter("redfish", device_of("n1", WALL_LESS_GPUS), reader, 5_000)
        spans, state, more = meter.measure(state, clock_at(1_000 * s))
        energy_uj += sum(span.energy_uj for span in spans)
        refused += more
    assert energy_uj == (800 * 1_800 + 810 * 400) * 10**6
    assert {text for text in refused if "have not changed" in text} == {"800 W have not changed for 30 minutes"}
    assert sum("nothing was read" in text for text in refused) == 1


def test_a_thread_that_reads_faster_than_the_agent_keeps_a_bounded_number() -> None:
    count = [0]

    def watts() -> float:
        count[0] += 1
        return 1.0

    reader, time = BackgroundReader(watts, "bmc", 0.0), FakeClock()
    assert reader(time) == ((), ())
    wait_until(lambda: count[0] > 1_000)
    assert 0 < len(reader(time).readings) <= 64
    reader.close()


# Pages


IPMI = '# TYPE x gauge\nipmi_dcmi_power_consumption_watts 712\nipmi_up{collector="dcmi"} 1\n'
PDU = 'outletPower{outlet="7",pdu="a"} 0.4\noutletPower{outlet="8",pdu="a"} 0.5\n'


def test_a_page_of_an_exporter_is_read_by_name_labels_and_unit() -> None:
    quantity = Quantity("ipmi_dcmi_power_consumption_watts", "W")
    assert page_watts("http://x", quantity, {}, lambda url: (200, IPMI)) == 712
    kilowatts = Quantity("outletPower", "kW")
    assert page_watts("http://x", kilowatts, {"outlet": "8"}, lambda url: (200, PDU)) == 500


def test_samples_of_other_outlets_are_never_added() -> None:
    with pytest.raises(Unavailable, match="has 2 samples outletPower"):
        page_watts("http://x", Quantity("outletPower", "kW"), {"pdu": "a"}, lambda url: (200, PDU))


def test_a_json_document_is_read_by_a_path() -> None:
    get = get_of({"http://x": {"outlets": [{"mW": 5}, {"mW": 1500}]}})
    assert json_watts("http://x", "outlets.1.mW", "mW", get) == 1.5
    with pytest.raises(BadInput, match="should have a number there"):
        json_watts("http://x", "outlets.2.mW", "mW", get)


# Settings


def test_host_and_wall_at_once_are_refused_by_name() -> None:
    with pytest.raises(BadSetting, match=r'produce.boundary.wall: .redfish.: host = "rapl" is set too'):
        source_of(BoundaryConfig(host="rapl", wall="redfish"), environment(Settings()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wall": "redfish"}, "produce.boundary.at"),
        ({"wall": "json", "at": "ftp://x", "sample": "x"}, "give the address"),
        ({"wall": "prometheus", "at": "http://x"}, "produce.boundary.sample"),
        ({"wall": "redfish", "at": "https://x", "ca": "/nowhere"}, "produce.boundary.ca"),
        ({"at": "https://x"}, "produce.boundary.at.*neither `host` nor `wall` is set: nothing is read"),
        ({"chassis": "1"}, "produce.boundary.chassis.*neither `host` nor `wall`"),
        ({"host": "rapl", "chassis": "1"}, "produce.boundary.chassis.*an option of redfish; rapl would ignore it"),
        ({"wall": "redfish", "at": "https://x", "unit": "kW"}, "unit.*an option of prometheus, json; redfish would"),
        ({"wall": "redfish", "at": "https://x", "sample": "y"}, "produce.boundary.sample"),
        ({"wall": "redfish", "at": "https://x", "labels": {"a": "b"}}, "produce.boundary.labels"),
        ({"host": "hwmon", "every_s": 9}, "produce.boundary.every_s"),
        ({"host": "rapl", "at": "http://x"}, "produce.boundary.at.*give their folder"),
        ({"host": "zeusd", "at": "/sys/class/powercap"}, "produce.boundary.at.*give unix:///"),
        ({"wall": "redfish", "at": "/sys/class/powercap"}, "produce.boundary.at.*give the address"),
    ],
)  # fmt: skip
def test_a_setting_that_is_missing_or_of_another_source_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        meter_of(BoundaryConfig(**options), environment(Settings()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "hardware", "device"),
    [
        ({"host": "rapl"}, HOST, "host-n1"), ({"host": "zeusd"}, HOST, "host-n1"), ({"host": "hwmon"}, HOST, "host-n1"),
        ({"host": "pm_counters"}, HOST, "host-n1"), ({"wall": "pm_counters"}, WALL_LESS_GPUS, "wall-n1"),
        ({"wall": "redfish", "at": "https://x"}, WALL_LESS_GPUS, "wall-n1"),
    ],
)  # fmt: skip
def test_a_source_is_that_of_a_device_of_its_own(options: dict[str, str], hardware: str, device: str) -> None:
    meter = meter_of(BoundaryConfig(**options), environment(Settings(node="n1")))  # type: ignore[arg-type]
    assert meter is not None
    assert meter.device == (device, hardware)


def test_an_agent_logs_once_what_it_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = BoundaryConfig(host="rapl", at=str(powercap(tmp_path, package_0=1, package_1=2)))
    meter = meter_of(config, environment(Settings(node="n1")))
    assert meter is not None
    state = b""
    for s in range(3):
        _, state, _ = meter.measure(state, clock_at(1_000 * s))
    assert caplog.messages == ["host of n1: rapl, package-0, package-1"]


def test_by_default_no_energy_of_a_node_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    assert meter_of(load(BoundaryConfig), environment(Settings())) is None
    assert findings("boundary", Settings()) == []


def test_a_second_agent_of_a_machine_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_BOUNDARY_HOST", "rapl")
    first, second = environment(Settings(data=tmp_path)), environment(Settings(data=tmp_path))
    with first.resources, second.resources:
        assert open_meter(first) is not None
        with pytest.raises(Unavailable, match="Another agent reads this node's energy: it has"):
            open_meter(second)


# Zones


def blade(folder: Path) -> Path:
    """Write HPE's counters: a node of 900 J, its CPU, memory and accelerator."""
    folder.mkdir()
    texts = {"startup": "1", "freshness": "5", "energy": "900 J", "cpu_energy": "100 J", "memory_energy": "30 J",
             "accel0_energy": "600 J"}  # fmt: skip
    for file, text in texts.items():
        (folder / file).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("options", "zones"), [({"host": "pm_counters"}, "cpu, memory"), ({"wall": "pm_counters"}, "node")]
)
def test_zones_that_contain_each_other_are_never_added(options: dict[str, str], zones: str, tmp_path: Path) -> None:
    config = BoundaryConfig(**options, at=str(blade(tmp_path / "pm")))  # type: ignore[arg-type]
    [(_, text)] = check(config, environment(Settings()))
    assert str(text).endswith(f"pm_counters, {zones}")


def test_the_platforms_zone_is_not_added_to_its_packages(tmp_path: Path) -> None:
    config = BoundaryConfig(host="rapl", at=str(powercap(tmp_path, package_0=1, package_1=2, psys=9)))
    [(_, text)] = check(config, environment(Settings()))
    assert text == "host: rapl, package-0, package-1"


def test_a_platforms_zone_alone_is_no_host(tmp_path: Path) -> None:
    config = BoundaryConfig(host="rapl", at=str(powercap(tmp_path, psys=9)))
    [(_, error)] = check(config, environment(Settings()))
    assert "rapl has no package or dram, but psys" in str(error)


@pytest.fixture
def page(serve: Callable[[Callable[[], tuple[int, str]]], str]) -> Iterator[str]:
    """An exporter of one GPU of 300 W."""
    yield serve(lambda: (200, 'DCGM_FI_DEV_POWER_USAGE{UUID="GPU-a",modelName="H100"} 300\n'))


def test_an_agent_publishes_its_host_as_a_device_of_its_own(
    page: str, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLOG_BOUNDARY_HOST", "hwmon")
    monkeypatch.setenv("WATTLOG_BOUNDARY_AT", str(grace(tmp_path / "hwmon", GRACE_HOPPER)))
    assert ("host-n1", HOST) in published_devices(page, broker, tmp_path, monkeypatch, HOST)


def test_an_agent_publishes_its_wall_less_the_gpus_by_a_bmc(
    page: str, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"PowerWatts": {"Reading": 1000}}'
    with serving(lambda _: Response(200, body)) as bmc:
        monkeypatch.setenv("WATTLOG_BOUNDARY_WALL", "redfish")
        monkeypatch.setenv("WATTLOG_BOUNDARY_AT", bmc)
        monkeypatch.setenv("WATTLOG_BOUNDARY_CHASSIS", "1")
        monkeypatch.setenv("WATTLOG_BOUNDARY_EVERY_S", "1")
        devices = published_devices(page, broker, tmp_path, monkeypatch, WALL_LESS_GPUS)
    assert ("wall-n1", WALL_LESS_GPUS) in devices


def published_devices(
    page: str, broker: str, folder: Path, monkeypatch: pytest.MonkeyPatch, hardware: str
) -> set[tuple[str, str]]:
    """Return the devices of the first event with this hardware, by the real agent of an exporter's page."""
    monkeypatch.setenv("WATTLOG_CONFIG", str(folder / "none.toml"))
    monkeypatch.setenv("WATTLOG_EXPORTER_URL", page)
    settings = Settings(
        data=folder, kafka_bootstrap=broker, cluster="east", node="n1", workload="chat", owner="acme", sample_hz=10,
        publish_ms=2_000,
    )  # fmt: skip

    def has_hardware(event: Event) -> bool:
        return isinstance(event.batch, PowerBatch) and hardware in dict(event.batch.gpus).values()

    with running("exporter", settings, threading.Event()):
        event = first_with_rows(broker, topics.POWER, has_hardware)
    assert event.workload == "chat"
    assert isinstance(event.batch, PowerBatch)
    return set(event.batch.gpus)
