"""`wattlog produce servers` as a user runs it: a configuration, a server over HTTP that comes and goes, a log."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from cli.health_checks import run_checks
from contracts import codec, topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import TokenBatch
from contracts.settings import Settings
from producers.common.http_client import MAX_BYTES, Pages
from producers.common.time_limit import TimeLimit
from producers.runtime.config import load
from producers.runtime.runner import run
from producers.servers.plugin import At, OwnNames, ServersConfig, addresses_of, servers
from tests.producers.conftest import Page
from tests.producers.frame import environment
from tests.support.waiting import HANG_S

CONFIG = """
cluster = "east"
[produce.servers]
tenant = "acme"
every_s = 0.5
[[produce.servers.at]]
url = "{url}"
server = "vllm"
workload = "chat"
"""


class Vllm:
    """A server's page with the test's counters; None: the server is down."""

    def __init__(self) -> None:
        self.prompt: int | None = 1_000
        self.started = time.time() - 86_400
        self.calls = 0

    def page(self) -> tuple[int, str]:
        self.calls += 1
        return 503 if self.prompt is None else 200, (
            f"process_start_time_seconds {self.started}\n"
            f'vllm:prompt_tokens_total{{model_name="m"}} {self.prompt}\n'
            f'vllm:generation_tokens_total{{model_name="m"}} {(self.prompt or 0) // 2}\n'
        )


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
def url(vllm: Vllm, serve: Callable[[Page], str]) -> str:
    return serve(vllm.page)


@pytest.fixture
def settings(url: str, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "wattlog.toml").write_text(CONFIG.format(url=url))
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    return Settings(data=tmp_path / "data", kafka_bootstrap=broker)


def test_a_servers_counts_are_on_the_log_through_restarts_of_both(settings: Settings, vllm: Vllm, broker: str) -> None:
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    batches: list[TokenBatch] = []

    def produce(until: Callable[[], bool]) -> None:
        """A producer, from its start to its end."""
        stop = threading.Event()
        thread = threading.Thread(target=run, args=("servers", settings, stop))
        thread.start()
        while not until():
            assert thread.is_alive()
            if not consumer.assignment():
                partitions = consumer.list_topics(topics.TOKENS, timeout=HANG_S).topics[topics.TOKENS].partitions
                consumer.assign([TopicPartition(topics.TOKENS, p, 0) for p in partitions])
            for m in consumer.consume(10, timeout=0.1):
                batch = codec.decode(m.headers(), m.value()).batch
                assert isinstance(batch, TokenBatch)
                batches.append(batch)
        stop.set()
        thread.join()

    def stored_tokens() -> int:
        return sum(int(b.prompt_tokens.sum()) for b in batches)

    produce(lambda: len(batches) > 0)
    assert stored_tokens() == 0
    vllm.prompt = 1_500  # while no producer runs
    produce(lambda: stored_tokens() >= 500)
    vllm.prompt, vllm.started = 200, time.time()  # restarted
    produce(lambda: stored_tokens() >= 700)
    vllm.prompt, calls = None, vllm.calls  # down for a while
    produce(lambda: vllm.calls > calls + 1)
    vllm.prompt = 300
    produce(lambda: stored_tokens() >= 800)
    consumer.close()
    assert stored_tokens() == 800
    rows = [b for b in batches if len(b)]
    assert {(b.tenants, b.models) for b in rows} == {(("acme",), ("m",))}
    assert sum(int(b.completion_tokens.sum()) for b in rows) == 400


def test_doctor_reads_each_configured_server(settings: Settings, vllm: Vllm, url: str) -> None:
    def read_findings() -> list[tuple[str, str]]:
        first = islice(run_checks(settings), 2)  # The remaining checks need the broker.
        return [(f.state, f.says) for f in first if f.check == "servers"]

    assert read_findings() == [("ok", f"{url}: vllm: m")]
    vllm.prompt = None
    [(state, text)] = read_findings()
    assert state == "failed"
    assert "answers 503" in text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[produce.servers]\nevery_s = 0", "produce.servers.every_s: 0"),
        ("[produce.servers]\nevry_s = 1", "produce.servers.evry_s"),
        ("[[produce.servers.at]]\nurl = 'ftp://x'\nserver = 'vllm'\nworkload = 'w'", "produce.servers.at.0.url"),
        ("[[produce.servers.at]]\nurl='http://u:pw@x'\nserver='vllm'\nworkload='w'", "leave user and password out"),
        ("[produce]\nservers = 3", "produce.servers: 3"),
    ],
)
def test_a_wrong_option_is_named_with_its_place_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    (tmp_path / "wattlog.toml").write_text(text)
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    with pytest.raises(BadSetting) as error:
        load(ServersConfig)
    assert named in str(error.value)
    assert "u:pw" not in str(error.value)


AT = At(url="http://a/metrics", server="vllm", workload="w", tenant="t")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (ServersConfig(), "name at least one server"),
        (ServersConfig(at=(AT.model_copy(update={"tenant": ""}),)), "say who pays"),
        (ServersConfig(at=(AT, AT)), "name each server once"),
        (ServersConfig(at=(AT.model_copy(update={"server": "vlm"}),)), "use one of vllm, sglang"),
    ],
)
def test_an_unusable_server_option_is_refused(config: ServersConfig, named: str) -> None:
    with pytest.raises(BadSetting, match=named):
        list(servers(config, environment(Settings())))


def test_a_server_is_read_by_configured_names() -> None:
    own = OwnNames(prompt=("in_total",), completion=("out_total",))
    config = ServersConfig(at=(AT.model_copy(update={"server": "mine"}),), names={"mine": own})
    [server] = servers(config, environment(Settings()))
    assert server.kind == "mine"


@pytest.mark.parametrize(
    ("answers", "addresses"),
    [
        (["10.0.0.1"], {"10.0.0.1"}),
        (["10.0.0.1", "10.0.0.1", "fd00::1"], {"10.0.0.1"}),
        (["10.0.0.1", "10.0.0.2", "fd00::1"], {"10.0.0.1", "10.0.0.2"}),
        (["fd00::1", "fd00::2"], {"fd00::1", "fd00::2"}),
        ([], set()),
    ],
)
def test_a_name_stands_for_as_many_servers_as_it_has_addresses_of_one_family(
    answers: list[str], addresses: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: object, **options: object) -> list[tuple[object, ...]]:
        if not answers:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET6 if ":" in a else socket.AF_INET, 1, 6, "", (a, 0)) for a in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert addresses_of("http://vllm.llm.svc:8000/metrics", TimeLimit(HANG_S)) == addresses


def test_an_endless_page_is_cut_off() -> None:
    def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=iter([b"x" * 2**20] * (MAX_BYTES // 2**20 + 2)))

    with Pages(transport=httpx.MockTransport(endless)) as pages, pytest.raises(Unavailable, match="larger than"):
        pages.text("http://a/metrics")


def test_the_token_is_sent_and_never_shown() -> None:
    seen: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(401)

    with Pages(bearer="s3cret", transport=httpx.MockTransport(refuse)) as pages, pytest.raises(Unavailable) as error:
        pages.text("http://a/metrics")
    assert seen == ["Bearer s3cret"]
    assert "s3cret" not in str(error.value)
