"""The NVML adapter on the real pynvml, over a compiled stand-in for the driver's library."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, topics
from contracts.events import Event, PowerBatch
from producers.gpu.nvml.scope import ScopeTrial
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S

HERE = Path(__file__).parent
Run = Callable[..., dict[str, Any]]
PRODUCE = (
    "from contracts.settings import Settings\n"
    "from producers.runtime import runner\n"
    "runner.run('nvml', Settings(), runner.stop_on_signals())\n"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libnvidia-ml")
    folder = tmp_path_factory.mktemp("nvml")
    command = [
        compiler,
        "-D_GNU_SOURCE",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(folder / "libnvidia-ml.so.1"),
    ]
    subprocess.run([*command, str(HERE / "fake_nvml.c")], check=True)
    return folder


@pytest.fixture
def run(library: Path, tmp_path: Path) -> Run:
    """Read a node through the adapter: each step is (monotonic ms, one line per GPU)."""

    def run(*steps: tuple[int, str], library_path: Path = library) -> dict[str, Any]:
        env = {**os.environ, "LD_LIBRARY_PATH": str(library_path), "FAKE_NVML": str(tmp_path / "gpus")}
        stdin = json.dumps([{"ms": ms, "gpus": gpus} for ms, gpus in steps])
        command = [sys.executable, "-m", "tests.producers.gpu.nvml.sensor_reader"]
        process = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
        assert process.returncode == 0, process.stderr
        got: dict[str, Any] = json.loads(process.stdout)
        return got

    return run


def write(control: Path, gpus: str) -> None:
    """In one step, because the stand-in may be reading."""
    fresh = control.with_suffix(".new")
    fresh.write_text(gpus)
    fresh.replace(control)


def gpu(
    uuid: str = "GPU-a", name: str = "NVIDIA H100 80GB HBM3", energy: str = "1000", power: str = "301000",
    instant: str = "311500", average: str = "305000", util: str = "40", mig: str = "0", state: str = "ok",
    module: str = "-", limit: str = "700000",
) -> str:  # fmt: skip
    return "|".join((uuid, name, energy, power, instant, average, util, mig, state, module, limit)) + "\n"


def test_counter_instant_watts_and_utilisation_are_read_with_both_clocks(run: Run) -> None:
    [[reading]] = run((250, gpu(energy="123456789012")))["readings"]
    assert reading == {
        "gpu_uuid": "GPU-a", "hardware": "NVIDIA H100 80GB HBM3", "t_ms": 1_700_000_000_250, "monotonic_ms": 250,
        "counter_mj": 123_456_789_012, "watts": 311.5, "utilisation": 0.4,
        "limit_w": 700.0, "period_ms": 0,
    }  # fmt: skip


def test_an_unsupported_counter_is_always_none_never_zero(run: Run) -> None:
    got = run((0, gpu(energy="-")), (1000, gpu(energy="5")))["readings"]
    assert [r["counter_mj"] for [r] in got] == [None, None]


def test_a_counter_that_fails_once_is_none_once(run: Run) -> None:
    got = run((0, gpu(energy="!")), (1000, gpu(energy="7")), (2000, gpu(energy="!")))["readings"]
    assert [r["counter_mj"] for [r] in got] == [None, 7, None]


@pytest.mark.parametrize(
    ("missing", "watts"),
    [({"instant": "-"}, 305.0), ({"instant": "-", "average": "-"}, 301.0), ({"instant": "!", "average": "!"}, 301.0)],
)
def test_watts_come_from_the_best_source_that_answers(run: Run, missing: dict[str, str], watts: float) -> None:
    [[reading]] = run((0, gpu(**missing)))["readings"]
    assert reading["watts"] == watts


def test_a_gpu_without_a_power_sensor_has_power_none_not_zero(run: Run) -> None:
    [[reading]] = run((0, gpu(energy="-", power="-", instant="-", average="-", util="-")))["readings"]
    assert (reading["counter_mj"], reading["watts"], reading["utilisation"]) == (None, None, None)


def test_a_board_split_by_mig_is_read_once_by_its_own_uuid_without_utilisation(run: Run) -> None:
    got = run((0, gpu(mig="1", util="-") + gpu("GPU-b")))
    assert list(got["gpus"]) == ["GPU-a", "GPU-b"]
    a, b = got["readings"][0]
    assert (a["counter_mj"], a["utilisation"]) == (1000, None)
    assert b["utilisation"] == 0.4


def test_a_gpu_without_a_power_limit_has_none(run: Run) -> None:
    [[reading]] = run((0, gpu(limit="-")))["readings"]
    assert reading["limit_w"] is None


def test_watts_keep_the_kind_that_answered_first(run: Run) -> None:
    got = run((0, gpu(instant="-")), (1000, gpu()), (2000, gpu(average="!")))["readings"]
    assert [r["watts"] for [r] in got] == [305.0, 305.0, None]


def test_failed_watts_are_tried_again_and_unsupported_ones_are_not(run: Run) -> None:
    dark = {"power": "-", "average": "-"}
    got = run((0, gpu(**dark, instant="!")), (1000, gpu(**dark)))["readings"]
    assert [r["watts"] for [r] in got] == [None, 311.5]
    got = run((0, gpu(**dark, instant="-")), (1000, gpu(**dark)))["readings"]
    assert [r["watts"] for [r] in got] == [None, None]


DARK = {"power": "-", "instant": "-", "average": "-"}
GRACE = "NVIDIA GH200 480GB"


def test_a_module_replaces_a_gpu_without_measurements_and_its_hardware_name_shows_it(run: Run) -> None:
    got = run((0, gpu(name=GRACE, energy="-", **DARK, module="650000")))
    [[reading]] = got["readings"]
    assert (reading["watts"], reading["hardware"]) == (650.0, f"{GRACE} (module)")
    assert got["measured"] == {"GPU-a": ["watts", "module", False]}


def test_a_modules_watts_never_replace_a_gpus_counter_or_watts(run: Run) -> None:
    got = run((0, gpu(name=GRACE, **DARK, module="650000") + gpu("GPU-b", energy="-", module="650000", mig="1")))
    [[a, b]] = got["readings"]
    assert (a["counter_mj"], a["watts"], a["hardware"]) == (1000, None, GRACE)
    assert b["watts"] == 311.5
    assert got["measured"] == {"GPU-a": ["counter", "gpu", False], "GPU-b": ["watts", "gpu", True]}


def grace(seconds: int, counter_w: int, gpu_mw: str = "400000", **changes: str) -> tuple[int, str]:
    """A step at a second: a GH200 whose counter advances by `counter_w`, and whose module draws 650 W."""
    values = {"name": GRACE, "energy": str(1_000 + counter_w * 1_000 * seconds), "instant": gpu_mw, "module": "650000"}
    return seconds * 1_000, gpu(**{**values, **changes})


def test_a_counter_that_advances_as_the_module_draws_is_named_and_read_as_the_modules(run: Run) -> None:
    """A GH200 has such a counter, as Zeus' maintainers measured: https://github.com/ml-energy/zeus/pull/172."""
    got = run(*(grace(second, 650) for second in range(7)))
    assert got["measured"] == {"GPU-a": ["counter", "module", False]}
    assert got["gpus"] == {"GPU-a": f"{GRACE} (module)"}
    [first], *_, [last] = got["readings"]
    assert (first["watts"], first["limit_w"], last["watts"], last["limit_w"]) == (400.0, 700.0, 650.0, None)
    assert last["hardware"] == f"{GRACE} (module)"


def test_a_counter_that_advances_as_the_gpu_draws_is_the_gpus(run: Run) -> None:
    got = run(*(grace(second, 400) for second in range(7)))
    assert got["measured"] == {"GPU-a": ["counter", "gpu", False]}
    assert {r["hardware"] for [r] in got["readings"]} == {GRACE}


@pytest.mark.parametrize(
    "steps",
    [
        [grace(second, 1_500) for second in range(7)],
        [grace(second, 0) for second in range(7)],
        [grace(second, 640, "620000") for second in range(7)],
        [grace(second, 650) for second in range(4)],
    ],
    ids=["neither", "standing", "alike", "too short"],
)
def test_a_counter_that_fits_no_scope_is_the_gpus_until_one_fits(run: Run, steps: list[tuple[int, str]]) -> None:
    got = run(*steps)
    assert got["measured"] == {"GPU-a": ["counter", "gpu", False]}
    assert got["trials"] == ["GPU-a"]


@given(
    watts=st.floats(50, 2_000), cpu_watts=st.floats(60, 500), of_module=st.booleans(), noise=st.floats(-0.03, 0.03),
    step_ms=st.sampled_from((1, 20, 100, 500)), every_ms=st.sampled_from((100, 250, 1_000)),
)  # fmt: skip
def test_the_scope_that_fits_is_the_true_one_or_none(
    watts: float, cpu_watts: float, of_module: bool, noise: float, step_ms: int, every_ms: int
) -> None:
    trial, scope = ScopeTrial(), None
    true_watts = watts + cpu_watts if of_module else watts
    for ms in range(0, 20_000, every_ms):
        watts_by_scope = {"gpu": watts * (1 + noise), "module": (watts + cpu_watts) * (1 - noise)}
        scope = scope or trial.add(ms, round(true_watts * (ms - ms % step_ms)), watts_by_scope)
    assert scope in {None, "module" if of_module else "gpu"}
    if cpu_watts > watts:
        assert scope is not None


def test_the_agent_compares_scopes_before_it_starts_and_doctor_names_the_module(library: Path, tmp_path: Path) -> None:
    code = (
        "import itertools, os\n"
        "from contracts.settings import Settings\n"
        "from pathlib import Path\n"
        "from producers import registry\n"
        "from producers.api import Kind\n"
        "from producers.gpu.nvml import plugin\n"
        "from tests.producers.frame import environment\n"
        "from tests.producers.gpu.nvml.test_sensor import grace, write\n"
        "from tests.support.clocks import FakeClock\n"
        "from dataclasses import replace\n"
        "control = Path(os.environ['FAKE_NVML'])\n"
        "class Clock(FakeClock):\n"
        "    def wait(self, seconds):\n"
        "        super().wait(1.0)\n"
        "        write(control, grace(self.now_ms // 1000, WATTS)[1])\n"
        "        return False\n"
        "write(control, grace(0, WATTS)[1])\n"
        "place = replace(environment(Settings()), clock=Clock())\n"
        "print(*plugin.check(None, place), sep='\\n')\n"
    )
    env = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "gpus")}

    def doctor(watts: int) -> str:
        command = [sys.executable, "-c", code.replace("WATTS", str(watts))]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=True).stdout

    output = doctor(650)
    assert "('', '1 GPU')" in output
    assert f"('GPU-a', \"{GRACE} (module): its counter includes the module's CPU and memory\")" in output
    assert "module" not in doctor(400)
    assert "it is not known if the energy counter is the GPU's or its module's" in doctor(0)


def test_the_driver_maps_pci_addresses_to_uuids(library: Path, tmp_path: Path) -> None:
    write(tmp_path / "gpus", gpu() + gpu("GPU-b"))
    env = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "gpus")}
    code = "from producers.gpu.nvml.sensor import uuids_by_pci; print(uuids_by_pci())"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, check=True
    )
    assert process.stdout.strip() == "{'0000:01:00.0': 'GPU-a', '0000:02:00.0': 'GPU-b'}"


def test_a_lost_gpu_is_reported_and_the_others_are_read(run: Run) -> None:
    both = gpu() + gpu("GPU-b")
    lost = gpu(state="lost") + gpu("GPU-b")
    got = run((0, both), (1000, lost), (2000, lost))
    assert [[r["gpu_uuid"] for r in step] for step in got["readings"]] == [["GPU-a", "GPU-b"], ["GPU-b"], ["GPU-b"]]
    assert got["lost"] == ["GPU-a"]


def test_a_gpu_that_appears_is_read_within_a_minute(run: Run) -> None:
    got = run((0, gpu()), (59_000, gpu() + gpu("GPU-b")), (60_000, gpu() + gpu("GPU-b", energy="7")))
    assert [[r["gpu_uuid"] for r in readings] for readings in got["readings"]] == [
        ["GPU-a"],
        ["GPU-a"],
        ["GPU-a", "GPU-b"],
    ]
    assert got["readings"][2][1]["counter_mj"] == 7
    assert got["gpus"].keys() == {"GPU-a", "GPU-b"}


def test_a_gpu_that_nvml_no_longer_lists_is_lost_and_the_others_keep_their_identity(run: Run) -> None:
    both, b = gpu() + gpu("GPU-b", energy="7"), gpu("GPU-b", energy="8")
    got = run((0, both), (1_000, both), (61_000, b), (62_000, b))
    assert got["lost"] == ["GPU-a"]
    assert [[r["gpu_uuid"], r["counter_mj"]] for r in got["readings"][2] + got["readings"][3]] == [["GPU-b", 8]] * 2


def test_a_gpu_that_did_not_answer_at_the_start_is_read_when_it_does(run: Run) -> None:
    got = run((0, gpu() + gpu("GPU-b", state="lost")), (60_000, gpu() + gpu("GPU-b")))
    assert [len(readings) for readings in got["readings"]] == [1, 2]


def test_a_lost_gpu_that_answers_again_is_restored_after_a_minute(run: Run) -> None:
    got = run((0, gpu()), (1000, gpu(state="lost")), (2000, gpu()), (61_000, gpu(energy="3")))
    assert [len(step) for step in got["readings"]] == [1, 0, 0, 1]
    assert got["lost"] == []


def test_the_hardware_is_nvmls_name_with_single_spaces(run: Run) -> None:
    got = run((0, gpu(name=" NVIDIA  A100-SXM4-80GB ")))
    assert got["gpus"] == {"GPU-a": "NVIDIA A100-SXM4-80GB"}


def test_a_driver_that_is_not_loaded_is_unavailable_with_a_hint(run: Run) -> None:
    assert "nvidia-smi" in run((0, ""))["unavailable"]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a driver")
def test_a_missing_library_is_unavailable_with_a_hint(run: Run, tmp_path: Path) -> None:
    assert "nvidia-smi" in run((0, ""), library_path=tmp_path)["unavailable"]


def test_an_agent_exposes_its_method_and_its_own_cost(library: Path, tmp_path: Path, broker: str) -> None:
    write(tmp_path / "gpus", gpu(mig="1") + gpu("GPU-b", energy="-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "gpus"),
        "WATTLOG_KAFKA_BOOTSTRAP": broker, "WATTLOG_METRICS_PORT": str(port), "WATTLOG_DATA": str(tmp_path),
    }  # fmt: skip
    page = ""
    with subprocess.Popen([sys.executable, "-c", PRODUCE], cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:  # Until it listens.
                with contextlib.suppress(OSError):
                    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANG_S).read().decode()
                    break
                time.sleep(0.05)
        finally:
            process.terminate()
    for line in (
        'wattlog_producer_gpus{evidence="counter",mig="1",scope="gpu"} 1.0',
        'wattlog_producer_gpus{evidence="watts",mig="0",scope="gpu"} 1.0',
        "process_cpu_seconds_total ", "process_resident_memory_bytes ",
    ):  # fmt: skip
        assert f"\n{line}" in page


def test_the_producer_meters_from_the_drivers_counter_to_the_log_until_sigterm(
    library: Path, tmp_path: Path, broker: str
) -> None:
    """`wattlog produce nvml` without its command line: a process, its settings, its signals, and a real log."""
    control = tmp_path / "gpus"
    write(control, gpu(energy="1000") + gpu("GPU-b", energy="50"))
    env = {
        **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(control), "WATTLOG_KAFKA_BOOTSTRAP": broker,
        "WATTLOG_CLUSTER": "east", "WATTLOG_NODE": "n1", "WATTLOG_WORKLOAD": "chat", "WATTLOG_OWNER": "acme",
        "WATTLOG_SAMPLE_HZ": "10", "WATTLOG_PUBLISH_MS": "100", "WATTLOG_DATA": str(tmp_path / "data"),
    }  # fmt: skip
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    maker = Producer({"bootstrap.servers": broker, "log_level": 0})  # naming a topic creates it
    partitions = maker.list_topics(topics.POWER, timeout=HANG_S).topics[topics.POWER].partitions
    consumer.assign([TopicPartition(topics.POWER, p, 0) for p in partitions])
    events: list[Event] = []

    def read(until: Callable[[], bool]) -> None:
        while not until():
            [message] = consumer.consume(1, timeout=HANG_S)
            events.append(codec.decode(message.headers(), message.value()))

    def energy_uj() -> int:
        return sum(int(e.batch.energy_uj.sum()) for e in events if isinstance(e.batch, PowerBatch))

    command = [sys.executable, "-c", PRODUCE]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            read(lambda: len(events) > 0)
            write(control, gpu(energy="1110") + gpu("GPU-b", state="lost"))
            read(lambda: energy_uj() > 0)
            write(control, gpu(energy="1221") + gpu("GPU-b", state="lost"))
        finally:
            process.terminate()
        _, errors = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, errors
    read(lambda: energy_uj() >= 221_000)
    consumer.close()
    assert energy_uj() == 221_000
    assert {(e.source, e.batch.owner) for e in events if isinstance(e.batch, PowerBatch)} == {
        ("nvml://east/n1/chat", "acme")
    }
    assert [e.seq for e in events] == list(range(len(events)))
    assert "GPU-b (NVIDIA H100 80GB HBM3) is lost" in errors


def boards(library: Path, tmp_path: Path, gpus: str, parts: str) -> dict[str, Any]:
    """Boards, MIG instances and processes, as the adapter of bindings sees them."""
    (tmp_path / "gpus").write_text(gpus)
    (tmp_path / "parts").write_text(parts)
    env = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "gpus"),
           "FAKE_NVML_PARTS": str(tmp_path / "parts")}  # fmt: skip
    command = [sys.executable, "-m", "tests.producers.gpu.nvml.boards_reader"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert process.returncode == 0, process.stderr
    got: dict[str, Any] = json.loads(process.stdout)
    return got


def test_boards_are_listed_with_their_instances_and_processes(library: Path, tmp_path: Path) -> None:
    got = boards(
        library, tmp_path,
        "GPU-a|A100|1|1|-|-|1|1|ok\nGPU-b|A100|1|1|-|-|1|0|ok\nGPU-c|A100|1|1|-|-|1|0|lost\n",
        "mig|GPU-a|MIG-1|1\nmig|GPU-a|MIG-3|3\nmig|GPU-a|MIG-odd|-\npid|GPU-b|8\npid|GPU-b|7\npid|MIG-3|9\npid|GPU-a|9\n",
    )  # fmt: skip
    names = {
        "0": "GPU-a",
        "nvidia2": "GPU-a",
        "0:0": "MIG-1",
        "nvidia2/gi1": "MIG-1",
        "0:1": "MIG-3",
        "nvidia2/gi3": "MIG-3",
    }
    assert got["boards"] == [
        ["GPU-a", 7, [["MIG-1", 1], ["MIG-3", 3]], names], ["GPU-b", 1, [], {"1": "GPU-b", "nvidia1": "GPU-b"}],
    ]  # fmt: skip
    assert got["running"] == {"MIG-1": [], "MIG-3": [9], "MIG-odd": [], "GPU-b": [7, 8]}
