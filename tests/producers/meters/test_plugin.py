"""The producers of meters as a user runs them: a configuration, their inputs, a log, and `wattlog doctor`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message

from cli.finding import Finding
from cli.health_checks import run_checks
from contracts import codec, topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import UsageBatch
from contracts.settings import Settings
from producers.meters.cgroups.config import CgroupsConfig
from producers.meters.cgroups.plugin import cgroups_source
from producers.meters.kubelet.config import KubeletConfig
from producers.meters.kubelet.plugin import kubelet_source
from producers.runtime.config import load
from producers.runtime.runner import run
from tests.producers.conftest import Page
from tests.producers.frame import environment
from tests.support.clocks import clock_at

METERS = ("cgroups", "kubelet", "prometheus", "sql")


class Kubelet:
    """A node's summary of one pod with a given CPU time."""

    def __init__(self) -> None:
        self.cpu_ns, self.calls = 0, 0

    def page(self) -> tuple[int, str]:
        self.calls += 1
        pod = {
            "podRef": {"name": "chat-1", "namespace": "serving", "uid": "u1"},
            "cpu": {"usageCoreNanoSeconds": self.cpu_ns},
        }
        return 200, json.dumps({"node": {"nodeName": "n1"}, "pods": [pod]})


@pytest.fixture
def configure(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    def configure(table: str) -> Settings:
        (tmp_path / "wattlog.toml").write_text(table)
        monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
        return Settings(data=tmp_path / "data", kafka_bootstrap=broker)

    return configure


def test_usage_while_no_producer_ran_is_on_the_log_once(
    configure: Callable[[str], Settings], serve: Callable[[Page], str], consume: Callable[[str, int], list[Message]]
) -> None:
    kubelet = Kubelet()
    url = serve(kubelet.page).removesuffix("/metrics")
    settings = configure(
        f'cluster = "c1"\n[produce.kubelet]\nurl = "{url}"\n'
        '[[produce.kubelet.rules]]\nworkload = "chat"\ntenant = "acme"\n'
    )
    for cpu_s in (60, 90):
        kubelet.cpu_ns, kubelet.calls = cpu_s * 10**9, 0
        stop = threading.Event()
        thread = threading.Thread(target=run, args=("kubelet", settings, stop))
        thread.start()
        while not kubelet.calls:
            assert thread.is_alive()
            stop.wait(0.01)
        stop.set()
        thread.join()
    (message,) = consume(topics.USAGE, 1)
    event = codec.decode(message.headers(), message.value())
    assert isinstance(event.batch, UsageBatch)
    assert (event.cluster, event.workload, event.batch.tenant) == ("c1", "chat", ("acme",))
    assert (event.batch.meter, event.batch.quantity) == (("cpu_usage_core_minutes",), ("0.5",))


def test_a_service_accounts_token_is_read_for_each_poll_and_never_sent_unencrypted(tmp_path: Path) -> None:
    config = KubeletConfig(url="https://127.0.0.1:1", token_file=tmp_path / "token")
    with pytest.raises(Unavailable, match="token_file"):
        kubelet_source(config, environment(Settings())).collect(None, clock_at(0))
    plain = config.model_copy(update={"url": "http://127.0.0.1:1"})
    with pytest.raises(Unavailable, match="does not answer"):
        kubelet_source(plain, environment(Settings())).collect(None, clock_at(0))


def test_doctor_shows_the_values_of_each_meter_or_the_failure(
    configure: Callable[[str], Settings], serve: Callable[[Page], str], tmp_path: Path
) -> None:
    (tmp_path / "sys").mkdir()
    url = serve(Kubelet().page).removesuffix("/metrics")
    settings = configure(
        f'[produce.kubelet]\nurl = "{url}"\n[produce.cgroups]\nroot = "{tmp_path}/sys"\n'
        '[[produce.cgroups.groups]]\npath = "x"\nworkload = "w"\n'
        f'[produce.prometheus]\nurl = "{url}"\n[[produce.prometheus.queries]]\nmeter = "m"\nunit = "1"\nquery = "x"\n'
        '[produce.sql]\ndsn = "mysql://h/d"\n[[produce.sql.queries]]\nmeter = "m"\nunit = "1"\nquery = "x"\n'
    )
    lines: dict[str, list[Finding]] = {}
    for finding in run_checks(settings):
        lines.setdefault(finding.check, []).append(finding)
        if lines.keys() >= set(METERS):
            break  # The remaining checks need the broker.
    assert [lines[name][0].state for name in METERS] == ["failed", "ok", "failed", "failed"]
    assert "cgroup v2" in lines["cgroups"][0].says
    assert "1 of unmatched/serving" in lines["kubelet"][0].says
    assert "postgresql://user@host" in lines["sql"][0].says


@pytest.mark.parametrize("name", ["kubelet", "prometheus", "sql"])
def test_a_producer_without_configuration_says_what_to_write(name: str, configure: Callable[[str], Settings]) -> None:
    with pytest.raises(BadSetting, match=f"produce.{name}"):
        run(name, configure(""), threading.Event())


def test_a_node_source_without_inputs_is_reported(configure: Callable[[str], Settings]) -> None:
    settings = configure("[produce.cgroups]\nhost = false\n")
    with pytest.raises(BadSetting, match="which cgroups are whose"):
        cgroups_source(load(CgroupsConfig), environment(settings))
