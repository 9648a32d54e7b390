"""`wattlog up` as a newcomer runs it: stand-ins for a vLLM server and a DCGM exporter, two commands, and kill -9."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from cli.up_metrics import JoinedRegistries
from cli.up_run import FirstSights
from cli.up_sources import _Source, configured
from cli.wiring.probes import probe
from cli.wiring.settings_text import settings_text
from contracts.errors import BadInput, BadSetting, Unavailable
from contracts.settings import Settings
from producers.api import Kind
from producers.gateways.litellm.callback import WattlogLogger
from tests.cli.conftest import Ran, wattlog
from tests.producers.gateways.payloads import payload
from tests.support.http_server import Request, Response, serving
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S, wait_until

MODEL = "meta-llama/Llama-3.1-8B"
WORKLOAD = "llama-3.1-8b"
QUICK = {
    "WATTLOG_WINDOW_MS": "1000", "WATTLOG_LATENESS_MS": "1000", "WATTLOG_SKEW_MS": "1000",
    "WATTLOG_IDLE_TIMEOUT_MS": "2000", "WATTLOG_PUBLISH_MS": "500", "WATTLOG_SERVERS_EVERY_S": "0.5",
    "WATTLOG_HTTP_PORT": "0",
}  # fmt: skip
"""Final windows within seconds instead of minutes."""


@dataclass
class Box:
    """A machine whose counters stand until `grow`, then grow with the clock until `freeze`."""

    begin_s: float | None = None
    end_s: float | None = None
    is_down: bool = False
    reads: collections.Counter[str] = field(default_factory=collections.Counter)

    def grow(self) -> None:
        self.begin_s = time.time()

    def freeze(self) -> None:
        self.end_s = time.time()

    @property
    def completion_tokens(self) -> int:
        return round(((self.end_s or time.time()) - self.begin_s) * 100) if self.begin_s else 0

    @property
    def expected(self) -> tuple[int, int]:
        """Tokens and microjoules since the counters began to grow."""
        return 6 * self.completion_tokens, 3_000_000 * self.completion_tokens

    def answer(self, request: Request) -> Response | None:
        self.reads[request.path] += 1
        if request.path == "/dcgm":
            return Response(200, self._exporter().encode())
        return None if self.is_down else Response(200, self._server().encode())

    def _exporter(self) -> str:
        return (
            "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n"
            'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-1",modelName="NVIDIA H100",Hostname="box"} '
            f"{3_000 * self.completion_tokens + 10**9}\n"
        )

    def _server(self) -> str:
        completion, labels = self.completion_tokens, f'{{engine="0",model_name="{MODEL}"}}'
        return (
            f"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{labels} {5 * completion}\n"
            f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{labels} {completion}\n"
        )


@dataclass
class Up:
    """A running `wattlog up`."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8")

    def wait_for(self, pattern: str) -> re.Match[str]:
        def ended() -> None:
            assert self.process.poll() is None, self.text

        wait_until(lambda: bool(re.search(pattern, self.text)), pattern, meanwhile=ended, detail=lambda: self.text)
        match = re.search(pattern, self.text)
        assert match is not None
        return match

    def ask(self, path: str) -> Any:
        address = self.wait_for(r"page and API: (\S+)")[1]
        with urllib.request.urlopen(f"{address}{path}", timeout=HANG_S) as answer:
            return json.load(answer)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(HANG_S)


@dataclass
class Newcomer:
    """A person in an empty folder."""

    folder: Path
    environment: dict[str, str]

    @contextmanager
    def up(self) -> Iterator[Up]:
        log = self.folder / f"up-{time.time_ns()}.log"
        command = [sys.executable, "-c", "from cli.main import main; main()", "up", "--port", "0"]
        variables = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")}
        variables |= {"PYTHONPATH": str(ROOT), "COLUMNS": "200", **self.environment}
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=self.folder, env=variables, stderr=file, stdout=file, text=True)
        try:
            yield Up(process, log)
        finally:
            process.kill()
            process.wait()

    def run(self, *arguments: str) -> Ran:
        return wattlog(*arguments, cwd=self.folder, **self.environment)


@contextmanager
def wired(folder: Path, box: Box) -> Iterator[Newcomer]:
    """The settings file that `wattlog init` writes for this box, and its stand-ins."""
    with serving(box.answer) as url:
        machine = probe((url, f"{url}/dcgm"), folder=folder, ports=())
        text = settings_text(machine, cluster="local", tenant="acme", folder=str(folder))
        (folder / "wattlog.toml").write_text(text, "utf-8")
        yield Newcomer(folder, dict(QUICK))


def ledger_of(up: Up) -> tuple[int, int]:
    """Tokens and microjoules of the final ledger."""
    rows = up.ask("/v1/chargeback?period=all")["rows"]
    return sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows), sum(r["energy_uj"] for r in rows)


@pytest.mark.slow
def test_two_commands_lead_to_a_ledger_that_kills_do_not_change(tmp_path: Path) -> None:
    box = Box()
    with wired(tmp_path, box) as newcomer:
        for _ in range(2):
            with newcomer.up() as up:
                if box.begin_s is None:  # Both sources have read the counters where they begin.
                    wait_until(lambda: min(box.reads["/metrics"], box.reads["/dcgm"]) > 4)
                    box.grow()
                up.wait_for("first joules")
                up.wait_for(f"first tokens: [\\d,]+ of local/{WORKLOAD}")
                up.end(signal.SIGKILL)
        with newcomer.up() as up:
            up.wait_for("first final window")
            box.freeze()
            wait_until(
                lambda: ledger_of(up) == box.expected, f"{box.expected}", every_s=0.5, detail=lambda: f"{ledger_of(up)}"
            )
            port = up.wait_for(r"page and API: \S+:(\d+)")[1]
            doctor = wattlog("doctor", "--json", cwd=tmp_path, **newcomer.environment, WATTLOG_API_PORT=port)
            states = {f["check"]: f["state"] for f in doctor.json}
            assert (states["warehouse"], states["names"], states["books"]) == ("ok", "ok", "ok")
            assert up.end(signal.SIGINT) == 0
        audit = newcomer.run("audit", "--json", "--period", "all").json
        assert (audit["residual_uj"], audit["sequence_gaps"]) == (0, 0)
        findings = {f["check"]: f for f in newcomer.run("doctor", "--json").json}
        assert findings["names"]["state"] == findings["books"]["state"] == "ok"
        [row] = newcomer.run("chargeback", "--json", "--period", "all").json["rows"]
        assert row["tenant"] == "acme"


@pytest.mark.slow
def test_a_source_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    box = Box()
    with wired(tmp_path, box) as newcomer:
        box.is_down = True
        box.grow()
        newcomer.environment["WATTLOG_HTTP_HOST"] = "203.0.113.1"
        newcomer.environment["WATTLOG_HTTP_JWT_KEY"] = "0123456789abcdef0123456789abcdef"
        with newcomer.up() as up:
            up.wait_for(r"http: cannot listen on 203\.0\.113\.1.*again in")
            up.wait_for("servers: .*does not answer")
            up.wait_for("first joules")
            box.is_down = False
            up.wait_for("first tokens")
            assert up.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_behind_a_gateway_the_tenants_of_its_keys_have_the_joules_and_no_token_counts_twice(tmp_path: Path) -> None:
    box = Box()
    (tmp_path / "config.yaml").write_text(
        f"model_list:\n  - model_name: chat\n    litellm_params: {{model: hosted_vllm/{MODEL}, api_base: SERVER}}\n"
    )
    (tmp_path / ".wattlog" / "litellm").mkdir(parents=True)
    with wired(tmp_path, box) as newcomer, newcomer.up() as up:
        box.grow()
        up.wait_for("litellm: .*0 files of the callback")
        logger = WattlogLogger(tmp_path / ".wattlog" / "litellm")

        def call() -> None:
            now_s = time.time()
            for tenant, tokens in (("acme", 30), ("globex", 10)):
                one = payload(
                    id=uuid.uuid4().hex, litellm_call_id=uuid.uuid4().hex, startTime=now_s - 1, endTime=now_s,
                    completionStartTime=now_s - 0.5, prompt_tokens=0, completion_tokens=tokens, total_tokens=tokens,
                    model_group="chat", model=MODEL, api_base="http://elsewhere/v1",
                    metadata={"user_api_key_team_alias": tenant}, response={},
                )  # fmt: skip
                asyncio.run(logger.async_log_success_event({"standard_logging_object": one}, None, 0, 1))

        def has_both() -> bool:
            rows = {row["tenant"]: row for row in up.ask("/v1/chargeback?period=all")["rows"]}
            return all(rows.get(tenant, {}).get("energy_uj") for tenant in ("acme", "globex"))

        wait_until(has_both, "both tenants have joules", meanwhile=call, every_s=0.5, detail=lambda: up.text)
        rows = up.ask("/v1/chargeback?by=tenant,model&period=all")["rows"]
        assert {row["model"] for row in rows if row["completion_tokens"]} == {MODEL}
        assert not any(row["prompt_tokens"] for row in rows)  # The server's own counters only check.
        logger.close()


class Ledger:
    """A warehouse that answers one question."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = [
            {"cluster": "c", "workload": "w", "energy_uj": 0, "tokens": 0, "final_rows": 0, **row} for row in rows
        ]

    def ask(self, question: str, **parameters: object) -> list[dict[str, Any]]:
        return self.rows


def test_first_joules_and_tokens_are_shown_once_and_the_rest_is_named() -> None:
    steps: list[str] = []
    progress = FirstSights(0, steps.append)
    for _ in range(2):
        progress.show_new(Ledger({"energy_uj": 2_500_000, "tokens": 1_200}))  # type: ignore[arg-type]
    assert steps == ["first joules: 2.5 J of c/w", "first tokens: 1,200 of c/w"]
    assert "final windows" in progress.give_up() and not progress.missing


class Restless:
    """A plug-in whose check names its place and what is wrong with a page, and whose run fails twice."""

    name, kind, check, options = "servers", Kind.POLLED, None, None

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.runs = stop, 0

    def run(self, *_: object, **__: object) -> None:
        self.runs += 1
        if self.runs == 3:
            self.stop.set()
            return
        raise Unavailable("away", "Wait.")


def test_a_source_that_is_run_again_says_once_that_it_was_read_and_names_the_page_that_was_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, warnings, stop = list[str](), list[str](), threading.Event()
    plugin = Restless(stop)
    monkeypatch.setattr("cli.up_sources.FIRST_RETRY_S", 0.0)
    monkeypatch.setattr("cli.up_sources.run", plugin.run)
    findings = [("http://a/metrics", "vllm: llama"), ("http://b/metrics", BadInput("page", "<html>", "has no value"))]
    monkeypatch.setattr("cli.up_sources.check", lambda *_: iter(findings))
    _Source(plugin, Settings(), None, stop, steps.append, warnings.append).run()  # type: ignore[arg-type]
    assert steps == ["servers: http://a/metrics: vllm: llama"]
    assert warnings[0] == "servers: http://b/metrics: page: '<html>': has no value"


def test_tokens_of_windows_that_were_open_at_the_start_are_first_and_those_of_an_earlier_run_are_not() -> None:
    steps: list[str] = []
    progress, ledger = FirstSights(0, steps.append), Ledger({"energy_uj": 10**9, "tokens": 500, "final_rows": 3})
    progress.note_earlier(ledger)  # type: ignore[arg-type]
    progress.show_new(ledger)  # type: ignore[arg-type]
    assert steps == []
    progress.show_new(Ledger({"energy_uj": 3 * 10**9, "tokens": 620, "final_rows": 4}))  # type: ignore[arg-type]
    assert steps[:2] == ["first joules: 2,000.0 J of c/w", "first tokens: 120 of c/w"]
    assert not progress.missing


def test_a_page_of_metrics_has_each_family_once_with_the_series_of_all_sources() -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for n, registry in enumerate(registries):
        counter = Counter("wattlog_rows", "Rows", ["source"], registry=registry)
        counter.labels(f"s{n}").inc(2)
        Counter("wattlog_calls", "Calls", registry=registry).inc(3)
    joined = CollectorRegistry()
    joined.register(JoinedRegistries(lambda: registries))
    text = generate_latest(joined).decode()
    assert [joined.get_sample_value("wattlog_rows_total", {"source": f"s{n}"}) for n in (0, 1)] == [2, 2]
    assert joined.get_sample_value("wattlog_calls_total") == 6
    assert text.count("# TYPE wattlog_rows_total") == 1


def test_two_sensors_of_the_same_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wattlog.toml"
    monkeypatch.setenv("WATTLOG_CONFIG", str(path))
    assert [plugin.name for plugin in configured()] == ["nvml", "http"]
    path.write_text('[produce.exporter]\nurl = "http://h/metrics"\n[produce.litellm]\nfolder = "x"\n')
    assert [plugin.name for plugin in configured()] == ["exporter", "http", "litellm"]
    monkeypatch.setenv("WATTLOG_ZEUSD_URL", "http://h")
    with pytest.raises(BadSetting, match="same GPUs"):
        configured()
