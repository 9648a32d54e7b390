"""Questions that no client of ours would ask get a 4xx that says why, and their neighbours get answers."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from starlette.exceptions import HTTPException

from api.question_bounds import CALLER_QUESTIONS, CALLER_RUNNING, QuestionBounds, SharedQuestion
from api.routes import PUBLIC_PATHS
from contracts.errors import BadQuery, Unavailable
from contracts.settings import Settings
from tests.api.conftest import TestClient
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import rows
from tests.support.waiting import HANG_S
from warehouse.client import Warehouse, connect
from warehouse.cursors import read_cursor, write_cursor

HUGE = "9" * 5_000
HOSTILE = {
    "a lone surrogate": "/v1/usage?tenant=%ED%A0%80",
    "a NUL byte": "/v1/usage?tenant=a%00b",
    "bytes that are no text": "/v1/usage?tenant=%FF%FE",
    "a huge limit": f"/v1/usage?limit={HUGE}",
    "a limit with an exponent": "/v1/usage?limit=1e999",
    "a limit of another script": "/v1/usage?limit=%D9%A1",
    "a negative limit": "/v1/usage?limit=-9223372036854775809",
    "a huge number of series": f"/v1/forecast?top={HUGE}",
    "a huge year": "/v1/chargeback?period=99999",
    "a year before 1970": "/v1/chargeback?from=0001-01-01T00:00:00Z",
    "a year after 2200": "/v1/chargeback?from=2026-01-01T00:00:00Z&to=9999-12-31T23:59:59Z",
    "a zone beyond the calendar": "/v1/chargeback?from=0001-01-01T00:00:00%2B23:59",
    "a date of another calendar": "/v1/chargeback?from=%D9%A2%D9%A0%D9%A2%D9%A6-01-01",
    "a month of another script": "/v1/chargeback?period=%D9%A2%D9%A0%D9%A2%D9%A6-%D9%A0%D9%A1",
    "a day that is none": "/v1/chargeback?period=2026-02-30",
    "a window beyond the calendar": "/v1/ledger/c/w/9999999-01-01T00:00:00Z/intervals",
    "a path of slashes": "/v1/ledger/%2F/%2F/%2F/intervals",
    "a path of surrogates": "/v1/sessions/%ED%A0%80",
    "a cursor of another form": "/v1/usage?cursor=W10",
    "a cursor that is no text": "/v1/usage?cursor=%FF",
    "a format of two values": "/v1/usage?format=json&format=xml",
}


@pytest.mark.parametrize("url", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_question_gets_a_4xx_or_an_empty_answer(client: TestClient, url: str) -> None:
    answer = client.get(url)
    assert answer.status_code in (200, 404, 422), answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 2_000, "a value is repeated at a bounded length"


PARTS: Sequence[Any] = (
    None, [], {}, True, 1.5, 1e400, 2**63, -(2**70), "\ud800", "a\0b", "x" * 3_000, "\uffff", -1, 2**63 - 1, -(2**63),
)  # fmt: skip


@pytest.mark.parametrize("route", ["usage", "ledger", "requests", "sessions", "chargeback", "efficiency", "fleet"])
def test_a_forged_cursor_gets_a_4xx_or_the_rows_after_its_key(client: TestClient, route: str) -> None:
    first = client.get(f"/v1/{route}?limit=1").json()["next"]
    digest, key = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    keys: list[Any] = [
        [*key[:n], part, *key[n + 1 :]] for n in range(len(key)) for part in PARTS
        if route == "usage" or type(part) is type(key[n])
    ]  # fmt: skip
    for forged_key in [*keys, [], [*key, "x"], key[:-1], "x", None]:
        forged = base64.urlsafe_b64encode(json.dumps([digest, forged_key]).encode()).decode().rstrip("=")
        answer = client.get(f"/v1/{route}?limit=1&cursor={forged}")
        assert answer.status_code in (200, 422), (forged_key, answer.text)


def test_a_cursor_of_another_caller_or_question_is_refused(client: TestClient) -> None:
    cursor = client.get("/v1/usage?limit=1").json()["next"]
    assert client.get(f"/v1/usage?limit=1&tenant=acme&cursor={cursor}").status_code == 422
    with pytest.raises(BadQuery):
        read_cursor(["other"], write_cursor(["question"], ["a"]), [str])


@pytest.mark.parametrize("name", ["größe", "租户", "a b", "x\ty", "x&cursor=1", "<x>", '"x"'])
def test_the_link_to_the_next_page_is_ascii_with_any_name(client: TestClient, books: Warehouse, name: str) -> None:
    at_ms = seed.END_MS - 10_000
    books.insert("ledger", rows("ledger", *({"window_start": at_ms, "model": name, "workload": w} for w in "ab")))
    answer = client.get(f"/v1/ledger?limit=1&model={quote(name)}")
    assert answer.status_code == 200
    link = answer.headers["link"]
    assert link.isascii()
    following = client.get(link.partition(">")[0].lstrip("<"))
    assert following.status_code == 200
    assert following.json()["rows"] != answer.json()["rows"]


@pytest.mark.parametrize(
    "path",
    [*sorted(p for p in PUBLIC_PATHS if "{" not in p), "/static/app.js", "/openapi.json", "/v1/usage", "/v1/none"],
)
def test_head_answers_as_get_does_without_a_body(client: TestClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_an_answer_in_csv_is_streamed(client: TestClient) -> None:
    answer = client.get("/v1/ledger?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "content-length" not in answer.headers
    assert answer.text.endswith("\r\n")


def test_a_warehouse_that_is_away_shows_no_address_and_no_text_of_a_driver(
    open_api: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = "The warehouse at http://db.internal:8123 does not answer: HTTPConnectionPool(host='db.internal')"

    def away(*_: object, **__: object) -> None:
        raise Unavailable(text, "Ask again.")

    client = open_api()
    monkeypatch.setattr(Warehouse, "query", away)
    for url in ("/v1/usage", "/readyz", "/v1/forecast"):
        answer = client.get(url)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "db.internal" not in answer.text
        assert "Pool" not in answer.text
    assert text in caplog.text


def test_health_answers_while_every_thread_and_reader_is_busy(
    open_api: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()

    def wait(*_: object, **__: object) -> list[dict[str, Any]]:
        hold.wait(HANG_S)
        raise Unavailable("away", "")

    monkeypatch.setattr(Warehouse, "query", wait)
    with open_api() as client:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(client.get("/v1/usage").status_code)

        threads = [threading.Thread(target=ask) for _ in range(CALLER_QUESTIONS)]
        for thread in threads:
            thread.start()
        bounds: QuestionBounds = client.app.state.questions  # type: ignore[attr-defined]
        while bounds._questions.total() < CALLER_QUESTIONS:
            threading.Event().wait(0.001)
        assert client.get("/healthz").status_code == 200
        refused = client.get("/v1/usage")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["type"] == "urn:wattlog:problem:too-many-questions"
        hold.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {503}
        monkeypatch.undo()
        assert client.get("/v1/usage").status_code == 200


def test_one_callers_slow_questions_leave_room_for_anothers() -> None:
    async def run() -> None:
        bounds, hold = QuestionBounds(running=4), asyncio.Event()
        running = list[str]()

        async def ask(caller: str) -> None:
            async with bounds.turn(caller):
                running.append(caller)
                await hold.wait()

        questions = [asyncio.create_task(ask(caller)) for caller in ("a", "a", "a", "a", "b")]
        for _ in range(10):
            await asyncio.sleep(0)
        assert running == ["a"] * CALLER_RUNNING + ["b"]
        hold.set()
        await asyncio.gather(*questions)
        assert running == ["a", "a", "b", "a", "a"]
        assert not bounds._questions
        assert not bounds._callers

    asyncio.run(run())


def test_readiness_is_asked_once_by_all_who_ask_it_together() -> None:
    async def run() -> None:
        hold, calls = threading.Event(), list[int]()

        def ask() -> int:
            calls.append(1)
            hold.wait(HANG_S)
            return 7

        shared = SharedQuestion(ask)
        many = [asyncio.create_task(shared.answer()) for _ in range(50)]
        await asyncio.sleep(0)
        many[0].cancel()
        hold.set()
        assert await asyncio.gather(*many[1:]) == [7] * 49
        assert calls == [1]
        assert await shared.answer() == 7
        assert calls == [1, 1]

    asyncio.run(run())


def test_all_callers_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.question_bounds.MAX_QUESTIONS", 2)

    async def run() -> None:
        bounds = QuestionBounds(running=4)
        async with bounds.turn("a"), bounds.turn("b"):
            with pytest.raises(HTTPException) as refused:
                async with bounds.turn("c"):
                    raise AssertionError
        assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "1"})

    asyncio.run(run())


@pytest.mark.parametrize(
    ("bound", "sql"),
    [
        ({"question_s": 1}, "SELECT count() AS n FROM numbers(1000000000000) WHERE sipHash64(number) % 7 = 3"),
        ({"question_mb": 50}, "SELECT uniqExact(number) AS n FROM numbers(100000000)"),
    ],
    ids=["time", "memory"],
)
def test_the_engine_ends_a_question_that_takes_too_long_or_too_much(
    chdb_dsn: str, bound: dict[str, int], sql: str
) -> None:
    with connect(chdb_dsn, database="default", **bound) as warehouse:
        with pytest.raises(BadQuery, match="narrow") as refused:
            warehouse.query(sql)
        assert "DB::Exception" not in str(refused.value)
        assert warehouse.query("SELECT 1 AS n") == [{"n": 1}]


def test_the_bounds_of_questions_are_settings() -> None:
    assert (Settings().question_timeout_s, Settings().question_memory_mb) == (120, 4_096)
