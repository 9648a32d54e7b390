"""The page in a real browser draws what the ledger holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import jwt
import pytest
import uvicorn

from api.app import create_app
from contracts.settings import Settings
from tests.api.test_auth import SECRET
from tests.support.chromium import browser
from tests.support.waiting import HANG_S, wait_until
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.periods import Period, resolve_period
from warehouse.reader import operator_reader

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:uvicorn.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets.*"),
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@contextmanager
def serving(warehouse: Warehouse, **settings: object) -> Iterator[str]:
    """The API on a free port of loopback; yields its address."""
    app = create_app(warehouse, Settings(**settings))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server is up")
        assert server.started
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(HANG_S)


class Dom(HTMLParser):
    """Text by element id, and the number of each tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.tags: dict[str, int] = {}
        self.hidden: set[str] = set()
        self._open: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if "hidden" in named:
            self.hidden.add(named.get("id") or "")
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append((tag, named.get("id") or ""))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name:
                self.text[name] = self.text.get(name, "") + data


def browse(address: str, profile: Path, *flags: str) -> Dom:
    """The page after it has drawn itself."""
    assert CHROMIUM
    process = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            *flags,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"{address}/",
        ],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return Dom(process.stdout)


def test_the_page_shows_ledger_balance_and_forecast_marked_simulated(books: Warehouse, tmp_path: Path) -> None:
    with serving(books) as address:
        dom = browse(address, tmp_path / "profile")
    assert dom.text.get("status", "") == ""
    when = resolve_period(books)
    total = chargeback_queries.chargeback_total(operator_reader(books), Period(when.start, when.end))
    assert f"{total.energy_uj:,} µJ measured" in dom.text["balance"]
    assert "residual 0 µJ" in dom.text["balance"]
    for name in ("acme", "globex", "initech", "unallocated GPUs"):
        assert name in dom.text["tenants"]
    assert f"{total.cost:.2f}" in dom.text["tenants-total"]
    assert "Energy of the GPUs" in dom.text["totals"] and "hosts" not in dom.text["totals"]
    assert "simulated" not in dom.hidden and dom.text["tenants"].count("SIMULATED") == 2
    assert dom.tags["rect"] > 60  # days of October by tenant
    assert re.search(r"December 2026: [\d.,]+ USD, with 80 % between", dom.text["forecast-text"])
    assert "series" in dom.text["anomalies-note"]


def _finding(run_at_ms: int, **of: object) -> dict[str, object]:
    texts = ("cluster", "workload", "tenant", "kind", "source", "quantities", "first_source", "second_source", "says")
    hour = datetime(2026, 11, 1, 6, tzinfo=UTC)
    amounts = {"first_amount": 0.0, "second_amount": 0.0, "comparisons": 34, "version": run_at_ms}
    return {"until": hour, "since": hour, **dict.fromkeys(texts, ""), **amounts, **of}


def test_an_operator_sees_differences_of_two_sources(warehouse: Warehouse, tmp_path: Path) -> None:
    sentence = "eu/chat: ledger lacks 3 % of what <servers> counts: lost"
    with serving(warehouse) as address:
        before = browse(address, tmp_path / "profile")
        assert "Not compared yet" in before.text["findings-note"]
        warehouse.insert_rows("reconciliation_findings", [_finding(1_800_000_000_000)])
        clean = browse(address, tmp_path / "profile")
        assert "No difference in 34 pairs of series" in clean.text["findings-note"] and "findings" not in clean.text
        differs = _finding(
            1_800_000_060_000, cluster="eu", workload="chat", kind="lost", source="ledger", says=sentence
        )
        warehouse.insert_rows("reconciliation_findings", [_finding(1_800_000_060_000), differs])
        dom = browse(address, tmp_path / "profile")
    assert "reconciliation" not in dom.hidden
    assert f"{sentence}since 2026-11-01 06:00 UTC" in dom.text["findings"]
    assert dom.text["findings-note"].startswith("Differences in 34 pairs of series over the hours before 2026-11-01")


def test_an_empty_ledger_is_shown_as_empty(warehouse: Warehouse, tmp_path: Path) -> None:
    with serving(warehouse) as address:
        dom = browse(address, tmp_path / "profile")
    assert "no final window yet" in dom.text["status"]
    assert "simulated" in dom.hidden


def test_links_save_their_files_when_a_key_is_set(books: Warehouse, tmp_path: Path) -> None:
    assert CHROMIUM
    token = jwt.encode({"role": "operator", "exp": 4_000_000_000}, SECRET, "HS256")
    with serving(books, api_jwt_key=SECRET) as address, browser(CHROMIUM, FLAGS, tmp_path) as tab:
        tab.go(f"{address}/")
        tab.wait_for("document.getElementById('signin')?.open === true")
        tab.evaluate(f"document.getElementById('token').value = '{token}'")
        tab.evaluate("document.querySelector('#signin button').click()")
        tab.wait_for("document.querySelectorAll('#tenants tr').length > 3")
        tab.evaluate("document.getElementById('csv').click()")
        bill = _saved(tab.downloads / "chargeback.csv")
        assert bill.startswith("tenant,energy_uj,") and "acme" in bill
        tab.evaluate("document.querySelector('a[download=\"metrics.txt\"]').click()")
        assert "wattlog_window_energy_joules" in _saved(tab.downloads / "metrics.txt")
        # A token that was revoked meanwhile: the page says so, and saves nothing.
        tab.evaluate("sessionStorage.setItem('wattlog-token', 'revoked')")
        tab.evaluate("document.getElementById('csv').click()")
        tab.wait_for("document.getElementById('signin').open")
        tab.wait_for("document.getElementById('status').textContent.startsWith('chargeback.csv was not saved')")
    assert sorted(path.name for path in tmp_path.glob("downloads/*")) == ["chargeback.csv", "metrics.txt"]


def _saved(file: Path) -> str:
    wait_until(file.is_file, f"{file.name} is saved")
    return file.read_text(encoding="utf-8")
