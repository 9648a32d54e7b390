"""Malformed pieces of Run:ai's answers: one item that cannot be read is refused, and its neighbours are metered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts.errors import Unavailable
from tests.producers.runai.stand_in import START, ApiObject, ApiRequest, FakeRunAi, Reply
from tests.producers.runai.test_source import SourceRun

MALFORMED: list[Any] = [
    1, None, "text", [], {}, {"id": 5}, {"id": "x", "name": None}, {"id": "x", "name": "n", "createdAt": 7}, "\ud800",
    {"id": 10**4_000}, [[[[]]] * 10],
]  # fmt: skip


@pytest.mark.parametrize("item", MALFORMED, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("page_size", [2, 500])
def test_a_malformed_workload_in_a_list_is_refused_alone(item: Any, place: int, page_size: int) -> None:
    standin = FakeRunAi(workloads=3)
    listed = standin._page

    def page(request: ApiRequest, kind: str, items: list[dict[str, Any]]) -> Reply:
        reply = listed(
            ApiRequest(request.method, request.path, {**request.params, "offset": "0", "limit": "500"}), kind, items
        )
        listed_items = reply.body[kind]
        if listed_items:
            listed_items.insert(place, item)
        offset, limit = int(request.params["offset"]), int(request.params["limit"])
        more = {"next": offset + limit} if offset + limit < len(listed_items) else {}
        return Reply(200, json.dumps({kind: listed_items[offset : offset + limit], **more}).encode())

    standin._page = page  # type: ignore[method-assign]
    run = SourceRun(standin, page_size=page_size)
    run.at(1.5)
    refused = run.step().refused
    assert {row[0] for row in run.rows()} == {"w0", "w1", "w2"}
    assert len(refused) == 1 and "/api/v1/workloads, item" in refused[0]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"[" * 3_000 + b"]" * 3_000), Reply(200, b'{"workloads": [1, 2]}'), Reply(200, b"\xff"),
        Reply(200, b'{"workloads": ' + b"[" * 3_000 + b"]" * 3_000 + b"}"), Reply(500, b"[" * 3_000 + b"]" * 3_000),
    ],
)  # fmt: skip
def test_an_answer_of_nothing_but_malformed_items_is_read_again(reply: Reply) -> None:
    standin = FakeRunAi()
    standin.fault = lambda request: reply if request.path == "/api/v1/workloads" else None
    run = SourceRun(standin)
    run.at(1.5)
    with pytest.raises(Unavailable):
        run.step()
    standin.fault = lambda request: None
    run.step()
    assert {row[0] for row in run.rows()} == {"w0"}


@pytest.mark.parametrize("life_s", [1e308, -5.0, 1e-9])
def test_a_token_of_any_life_is_used(life_s: float) -> None:
    standin = FakeRunAi()
    standin.expires_in = life_s
    standin.workloads = {"w0": ApiObject("w0", "job", born_ms=START - 1)}
    run = SourceRun(standin)
    run.at(1.5)
    run.step()
    assert run.rows()
