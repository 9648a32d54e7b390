"""The example of docs/write-a-source.md, extracted and run: another package registers a GPU maker and a server."""

from __future__ import annotations

import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from cli.health_checks import run_checks
from contracts import codec, topics
from contracts.errors import BadSetting
from contracts.events import PowerBatch
from contracts.settings import Settings
from producers import registry
from producers.api import Kind
from producers.common.prometheus_text import parse_page
from producers.runtime.runner import run
from producers.servers.plugin import At, ServersConfig, servers
from producers.servers.token_counters import ServedTotals
from tests.producers.frame import environment, findings, token_counters
from tests.project.tree import ROOT

PAGE = (ROOT / "docs" / "write-a-source.md").read_text("utf-8")
FILES = dict(re.findall(r"```\w+ file=(\S+)\n(.*?)```", PAGE, re.S))
BROKEN = {
    "acme_wattlog/broken.py": "raise RuntimeError('half installed')\n",
    "acme_wattlog/stranger.py": "PLUGIN = 42\n",
    "acme_wattlog/double.py": "from producers.api import Kind, Plugin\n"
    "PLUGIN = Plugin('vllm', Kind.SERVER, 'another vLLM', lambda options, environment: None)\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example's package, installed, with three broken plug-ins beside the working ones."""
    points = dict(tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"][registry.GROUP])
    points |= {Path(name).stem: f"acme_wattlog.{Path(name).stem}:PLUGIN" for name in BROKEN}
    info = tmp_path / "acme_wattlog-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-wattlog\nVersion: 1.0\n")
    lines = (f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{''.join(lines)}")
    (tmp_path / "acme_wattlog").mkdir()
    for name, text in {**FILES, **BROKEN, "acme_wattlog/__init__.py": ""}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    registry._third_party.cache_clear()
    yield tmp_path
    registry._third_party.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_wattlog"]:
        del sys.modules[name]


@pytest.fixture
def driver(package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of Acme's driver: two GPUs."""
    folder = package / "driver"
    folder.mkdir()
    for uuid in ("ACME-0", "ACME-1"):
        (folder / uuid).write_text("Acme-X1 1000 300.0\n")
    monkeypatch.setenv("WATTLOG_ACME_FOLDER", str(folder))
    return folder


def test_the_plug_ins_of_the_page_are_registered_beside_the_built_in_ones(package: Path) -> None:
    assert {"nvml", "acme"} <= set(registry.names())
    assert {"vllm", "acmeserve"} <= set(registry.names(Kind.SERVER))
    assert registry.get("acme").summary == "GPUs of Acme, through their driver's files"
    assert "WATTLOG_ACME_FOLDER" in registry.variables()


def test_a_broken_plug_in_is_named_and_affects_no_other(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    problems = dict(registry.problems())
    assert problems.keys() == {"broken", "stranger", "double"}
    assert "half installed" in problems["broken"]
    assert "is no producers.api.Plugin" in problems["stranger"]
    assert "the name 'vllm' is taken" in problems["double"]
    assert "plug-in broken is skipped" in caplog.text
    failed = {finding.check: finding.says for finding in run_checks(Settings()) if finding.state == "failed"}
    assert "half installed" in failed["broken"]
    assert registry.get("vllm", Kind.SERVER).summary == "vLLM"


def test_the_server_of_the_page_is_read_by_its_name(package: Path) -> None:
    page = parse_page(
        "acmeserve_prompt_tokens_total 9\nacmeserve_completion_tokens_total 5\nacmeserve_requests_total 2\n"
    )
    assert token_counters("acmeserve").served(page) == {"": ServedTotals(9, 0, 5, 2)}
    at = At(url="http://10.0.0.5/metrics", server="acmeserve", workload="chat", tenant="acme")
    [source] = servers(ServersConfig(at=(at,)), environment(Settings()))
    assert source.kind == "acmeserve"
    with pytest.raises(BadSetting, match="acmeserve"):
        list(servers(ServersConfig(at=(at.model_copy(update={"server": "other"}),)), environment(Settings())))


def test_the_gpu_maker_of_the_page_is_metered_to_the_log(driver: Path, broker: str) -> None:
    assert findings("acme", Settings()) == [(str(driver), "2 GPUs")]
    stop = threading.Event()
    settings = Settings(
        data=driver.parent / "data", kafka_bootstrap=broker, cluster="east", node="n1", workload="chat", sample_hz=10,
        publish_ms=100,
    )  # fmt: skip
    thread = threading.Thread(target=run, args=("acme", settings, stop))
    thread.start()
    try:
        for counter_mj in range(1_000, 7_000, 300):
            (driver / "ACME-0").write_text("cut off" if counter_mj == 4_000 else f"Acme-X1 {counter_mj} 300.0\n")
            assert thread.is_alive()
            stop.wait(0.1)
    finally:
        stop.set()
        thread.join()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(topics.POWER, p, 0) for p in range(4)])
    events = [codec.decode(m.headers(), m.value()) for m in consumer.consume(1000, timeout=2)]
    consumer.close()
    assert {event.source for event in events} == {"acme://east/n1/chat"}
    energy_uj = sum(int(e.batch.energy_uj.sum()) for e in events if isinstance(e.batch, PowerBatch))
    assert energy_uj > 0
    assert energy_uj % 300_000 == 0


def test_doctor_shows_the_holders_of_the_gpus_of_another_maker(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_BINDINGS_SOURCE", "kubernetes,settings")
    lines = dict(findings("bindings", Settings(node="n1", workload="chat", owner="acme")))
    assert {"ACME-0", "ACME-1"} <= lines.keys()
