"""GPUs from zeusd: both forms of its answers, over its socket and TCP, and as intervals on the log."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import ValidationError

from contracts import topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import PowerBatch
from contracts.settings import Settings
from producers.common.http_client import Pages
from producers.common.zeusd_client import ZeusdClient
from producers.gpu.evidence import GpuMeasurement
from producers.gpu.meter import add_reading
from producers.gpu.zeusd.plugin import ZeusdConfig
from producers.gpu.zeusd.sensor import ZeusdSensor
from producers.runtime.runner import run
from tests.producers.conftest import first_with_rows, running
from tests.producers.frame import findings
from tests.support.clocks import FakeClock
from tests.support.http_server import Request, Response, serving_socket

A40 = "NVIDIA A40"
NEW = {
    "gpus": [
        {"id": 0, "name": A40, "pci_address": "0000:01:00.0", "cumulative_energy_available": True},
        {"id": 1, "name": A40, "pci_address": "0000:41:00.0", "cumulative_energy_available": False},
    ],
    "cpus": [{"id": 0, "dram_available": True}],
    "enabled_api_groups": ["gpu-read", "cpu-read"], "auth_required": False,
}  # fmt: skip
OLD = {"gpu_ids": [0, 1], "cpu_ids": [0], "dram_available": [True], "enabled_api_groups": ["gpu-read"]}
BARE = ZeusdClient("http://zeusd:4938", Pages())


class Daemon:
    """zeusd, after its source code. `broken` devices answer with errors; `paths` are the requested paths."""

    def __init__(self, discovery: Mapping[str, object] = NEW) -> None:
        self.discovery = discovery
        self.energy_mj: dict[int, int] = {0: 1_000}
        self.power_mw: dict[int, int] = {0: 75_000, 1: 120_000}
        self.cpus: dict[int, dict[str, int | None]] = {0: {"cpu_energy_uj": 5, "dram_energy_uj": None}}
        self.status: dict[str, int] = {}
        self.paths: list[str] = []

    def answer(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, object]:
        self.paths.append(path)
        if path in self.status:
            return self.status[path], {"error": "as the test wants it"}
        if path == "/discover":
            return 200, self.discovery
        if path.startswith("/gpu"):
            ids = [int(i) for i in query["gpu_ids"][0].split(",")]
            known = self.energy_mj if path.endswith("energy") else self.power_mw
            if bad := [i for i in ids if i not in known]:
                return 400, {"errors": {str(i): f"GPU {i}: not supported" for i in bad}}
            if path.endswith("energy"):
                return 200, {str(i): {"energy_mj": known[i]} for i in ids}
            return 200, {"timestamp_ms": 1, "power_mw": {str(i): known[i] for i in ids}}
        assert (query["cpu"], query["dram"]) == (["true"], ["true"])
        return 200, {str(i): energy for i, energy in self.cpus.items()}

    def client(self, url: str = "http://zeusd:4938") -> ZeusdClient:
        def handle(request: httpx.Request) -> httpx.Response:
            status, body = self.answer(request.url.path, parse_qs(request.url.query.decode()))
            return httpx.Response(status, json=body)

        return ZeusdClient(url, Pages(transport=httpx.MockTransport(handle)))


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Daemon], str]]:
    """A daemon on a Unix domain socket; returns its address."""
    with ExitStack() as servers:

        def serve(daemon: Daemon) -> str:
            def answer(request: Request) -> Response:
                status, body = daemon.answer(request.path, request.query)
                return Response(status, json.dumps(body).encode())

            return servers.enter_context(serving_socket(answer, tmp_path_factory.mktemp("zeusd") / "zeusd.sock"))

        yield serve


def test_a_counter_is_read_where_zeusd_supports_it_and_watts_elsewhere() -> None:
    gpus = ZeusdSensor(Daemon().client(), "n1")
    a, b = gpus.readings(FakeClock(0))
    assert (a.hardware, a.counter_mj, a.watts) == (A40, 1_000, 75.0)
    assert (b.hardware, b.counter_mj, b.watts) == (A40, None, 120.0)
    assert gpus.measured == {
        "zeusd-n1-0": GpuMeasurement("counter", "gpu"),
        "zeusd-n1-1": GpuMeasurement("watts", "gpu"),
    }


def test_a_grace_hopper_is_named_a_module_and_its_gpus_watts_are_not_mixed_with_the_counter() -> None:
    """zeusd passes on NVML's counter, which is the module's, and instant watts of the GPU."""
    daemon = Daemon(
        {"gpus": [{"id": 0, "name": "NVIDIA GH200 480GB", "cumulative_energy_available": True}], "cpus": []}
    )
    gpus = ZeusdSensor(daemon.client(), "n1")
    [reading] = gpus.readings(FakeClock(0))
    assert (reading.hardware, reading.counter_mj, reading.watts) == ("NVIDIA GH200 480GB (module)", 1_000, None)
    assert gpus.measured == {"zeusd-n1-0": GpuMeasurement("counter", "module")}


def test_an_older_zeusd_is_probed_once_for_counters() -> None:
    daemon = Daemon(OLD)
    gpus = ZeusdSensor(daemon.client(), "n1", hardware="Tesla V100")
    for _ in range(3):
        a, b = gpus.readings(FakeClock(0))
    assert (a.counter_mj, b.counter_mj, a.hardware) == (1_000, None, "Tesla V100")
    assert (
        daemon.paths.count("/gpu/get_cumulative_energy") == 5
    )  # Both, the one with a counter; then three times that one.


def test_a_gpu_has_its_given_uuid_else_the_drivers_by_address_else_node_and_index(
    tmp_path: Path,
) -> None:
    driver = {"0000:01:00.0": "GPU-a", "0000:41:00.0": "GPU-b"}

    def uuids(url: str, **fields: object) -> list[str]:
        gpus = ZeusdSensor(Daemon().client(url), "n1", by_pci=lambda: driver, **fields)  # type: ignore[arg-type]
        return [reading.gpu_uuid for reading in gpus.readings(FakeClock(0))]

    local = f"unix://{tmp_path}"
    assert uuids(local) == ["GPU-a", "GPU-b"]
    assert uuids(local, uuids={1: "GPU-x"}) == ["GPU-a", "GPU-x"]
    assert uuids("http://elsewhere:4938") == ["zeusd-n1-0", "zeusd-n1-1"]  # The real one of this machine is another.


def test_a_gpu_that_fails_is_left_out_and_the_others_are_read() -> None:
    daemon = Daemon()
    gpus = ZeusdSensor(daemon.client(), "n1")
    gpus.readings(FakeClock(0))
    del daemon.power_mw[1]
    assert [(r.gpu_uuid, r.watts) for r in gpus.readings(FakeClock(0))] == [("zeusd-n1-0", 75.0)]
    daemon.energy_mj.clear()
    assert [(r.gpu_uuid, r.counter_mj) for r in gpus.readings(FakeClock(0))] == [("zeusd-n1-0", None)]


BAD_VALUES = ["soon", None, {"x": 1}, [], 10**400, -5]


@pytest.mark.parametrize("value", BAD_VALUES, ids=["text", "null", "an object", "a list", "too large", "negative"])
def test_a_malformed_value_affects_no_other_gpu(value: object) -> None:
    daemon = Daemon()
    daemon.power_mw[1] = value  # type: ignore[assignment]
    gpus = ZeusdSensor(daemon.client(), "n1")
    assert [(r.gpu_uuid, r.watts) for r in gpus.readings(FakeClock(0))] == [("zeusd-n1-0", 75.0)]


def test_a_gpu_with_a_malformed_description_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon({**NEW, "gpus": [{"id": "first"}, *NEW["gpus"][1:]]})  # type: ignore[index]
    assert [r.gpu_uuid for r in ZeusdSensor(daemon.client(), "n1").readings(FakeClock(0))] == ["zeusd-n1-1"]
    assert "first" in caplog.text


def test_a_counter_at_0_is_ignored() -> None:
    daemon = Daemon()
    daemon.energy_mj[0] = 0
    assert ZeusdSensor(daemon.client(), "n1").readings(FakeClock(0))[0].counter_mj is None


def test_the_second_die_of_an_mi250_is_left_out_because_the_first_measures_both() -> None:
    dies = [{"id": i, "name": "AMD Instinct MI250X", "cumulative_energy_available": True} for i in range(4)]
    daemon = Daemon({"gpus": dies})
    daemon.energy_mj = daemon.power_mw = dict.fromkeys(range(4), 1_000)
    assert [r.gpu_uuid for r in ZeusdSensor(daemon.client(), "n1").readings(FakeClock(0))] == [
        "zeusd-n1-0",
        "zeusd-n1-2",
    ]


@pytest.mark.parametrize(
    ("path", "status", "mend"),
    [
        ("/gpu/get_power", 404, "--enable gpu-read"), ("/gpu/get_power", 403, "scope gpu-read"),
        ("/gpu/get_cumulative_energy", 401, "scope gpu-read"), ("/discover", 404, "0.3 or later"),
        ("/discover", 500, "Is that zeusd"),
    ],
)  # fmt: skip
def test_a_refusal_of_zeusd_is_reported_with_the_fix(path: str, status: int, mend: str) -> None:
    daemon = Daemon()
    daemon.status[path] = status
    with pytest.raises(Unavailable, match=mend):
        ZeusdSensor(daemon.client(), "n1").readings(FakeClock(0))


def test_a_server_other_than_zeusd_is_reported() -> None:
    daemon = Daemon({"gpu_ids": "none of your business"})
    with pytest.raises(Unavailable, match="does not answer as zeusd does"):
        ZeusdSensor(daemon.client(), "n1").readings(FakeClock(0))


def test_a_daemon_that_returns_is_probed_again() -> None:
    daemon = Daemon()
    gpus = ZeusdSensor(daemon.client(), "n1")
    gpus.readings(FakeClock(0))
    daemon.status["/gpu/get_power"] = 404
    with pytest.raises(Unavailable):
        gpus.readings(FakeClock(0))
    daemon.status.clear()
    daemon.discovery = {"gpus": NEW["gpus"][:1]}  # type: ignore[index]
    assert len(gpus.readings(FakeClock(0))) == 1


def test_a_restarted_counter_is_estimated_from_watts() -> None:
    daemon, time, state = Daemon(), FakeClock(10_000), None
    gpus = ZeusdSensor(daemon.client(), "n1")
    took = []
    for counter in (5_000_000, 5_075_000, 10_000, 85_000, 160_000):
        daemon.energy_mj[0] = counter
        took.append(add_reading(state, gpus.readings(time)[0]))
        state = took[-1].state
        time.wait(1.0)
    assert [i.energy_uj for result in took for i in result.intervals] == [75_000_000] * 4
    assert [result.resets for result in took] == [0, 0, 0, 1, 0]


# the producer


def test_the_producer_meters_from_the_socket_to_the_log(
    socket: Callable[[Daemon], str], broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, daemon = itertools.count(), Daemon()
    answer = daemon.answer

    def turning(path: str, query: Mapping[str, list[str]]) -> tuple[int, object]:
        daemon.energy_mj[0] = 1_000 + 300 * next(reads)
        return answer(path, query)

    monkeypatch.setattr(daemon, "answer", turning)
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_ZEUSD_URL", socket(daemon))
    stop = threading.Event()
    settings = Settings(
        data=tmp_path, kafka_bootstrap=broker, cluster="east", node="gpu-7", workload="chat", sample_hz=10,
        publish_ms=100,
    )  # fmt: skip
    with running("zeusd", settings, stop):
        first = first_with_rows(broker, topics.POWER)
    assert (first.source, first.workload) == ("zeusd://east/gpu-7/chat", "chat")
    assert isinstance(first.batch, PowerBatch)
    assert set(first.batch.gpus) == {("zeusd-gpu-7-0", A40), ("zeusd-gpu-7-1", A40)}


def test_doctor_lists_the_devices_of_the_daemon(
    socket: Callable[[Daemon], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    assert findings("zeusd", Settings()) == []
    monkeypatch.setenv("WATTLOG_ZEUSD_URL", socket(Daemon()))
    monkeypatch.setenv("WATTLOG_ZEUSD_UUIDS", '{"0": "GPU-a"}')
    [(_, text)] = findings("zeusd", Settings())
    assert text == "2 GPUs, 1 with an energy counter, 1 with a UUID"
    monkeypatch.setenv("WATTLOG_ZEUSD_URL", f"unix://{tmp_path}/nobody.sock")
    [(_, text)] = findings("zeusd", Settings())
    assert isinstance(text, Unavailable)


def test_a_missing_address_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match="say where it listens"):
        run("zeusd", Settings(), threading.Event())


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("http://u:pw@n1:4938", "leave user and password out"), ("unix://zeusd.sock", "whole path"),
        ("n1:4938", "unix:///path"),
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused(url: str, mend: str) -> None:
    with pytest.raises(ValidationError, match=mend):
        ZeusdConfig(url=url)
