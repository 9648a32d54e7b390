"""`wattlog doctor` beside a running `wattlog up`: what it reads from the API."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from cli.finding import Finding
from cli.running_ledger import running_ledger
from contracts.errors import Unavailable
from contracts.settings import Settings
from tests.support.http_server import Request, Response, serving

IN_USE = Unavailable("it is open in another process", "Stop it.")
APART = 'wattlog_workload_unmetered_requests{cluster="eu",workload="chat",with_gpus="llama"} 7\n'


JOIN = {"cluster": "eu", "workload": "chat", "join": 'routes = ["chat=llama"]'}


def findings(metrics: str, *, ok: bool = True, apart: Sequence[dict[str, str]] = ()) -> list[Finding]:
    balance = {
        "ok": ok, "windows": 9, "residual_uj": 0, "sequence_gaps": 0 if ok else 2, "names_apart": list(apart),
    }  # fmt: skip

    def answer(request: Request) -> Response:
        body = metrics if request.path == "/metrics" else json.dumps(balance)
        return Response(200, body.encode())

    with serving(answer) as url:
        settings = Settings(api_port=int(url.rpartition(":")[2]))
        return list(running_ledger(settings, IN_USE))


def test_workloads_that_meet_are_ok() -> None:
    assert [(f.check, f.state) for f in findings("up 1\n")] == [("warehouse", "ok"), ("names", "ok"), ("books", "ok")]


def test_names_that_do_not_meet_fail_with_the_question() -> None:
    [name] = [f for f in findings(APART) if f.check == "names"]
    assert name.state == "failed" and name.says.endswith("eu/llama has GPUs and no tokens: the same?")


def test_the_line_that_joins_two_names_is_the_hint() -> None:
    [name] = [f for f in findings(APART, apart=[{**JOIN, "cluster": "us"}, JOIN]) if f.check == "names"]
    assert name.hint == JOIN["join"]
    [unknown] = [f for f in findings(APART) if f.check == "names"]
    assert "`wattlog up` prints the line" in unknown.hint


def test_calls_without_a_tenant_are_noted() -> None:
    page = 'wattlog_workload_unnamed_tenant_requests{cluster="eu",workload="chat"} 1\n'
    [tenants] = [f for f in findings(page) if f.check == "tenants"]
    assert tenants.state == "note" and "`otherwise`" in tenants.hint
    assert tenants.says == "unknown pays for 1 request of workload eu/chat in the last hour: the sender named no tenant"


def test_books_that_do_not_balance_fail() -> None:
    [books] = [f for f in findings("up 1\n", ok=False) if f.check == "books"]
    assert (books.state, books.says) == ("failed", "9 windows, residual 0 uJ, 2 events missing")


@pytest.mark.parametrize("answer", [Response(401, b""), Response(200, b"<html>"), None])
def test_without_an_api_the_folder_stays_in_use(answer: Response | None) -> None:
    with serving(lambda _: answer) as url, pytest.raises(Unavailable, match="open in another process"):
        list(running_ledger(Settings(api_port=int(url.rpartition(":")[2])), IN_USE))
