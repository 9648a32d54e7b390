"""Run:ai's API when it is slow, busy or broken; and lists that change while they are read."""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Unavailable
from producers.runai.client import ATTEMPTS, BRAKE, MAX_BYTES, RunAiClient, RunAiCredentials
from producers.runai.listing import RunAiListing, list_all
from producers.runai.windows import RunAiWindow
from tests.producers.runai.stand_in import (
    MINUTE_MS,
    SECRET,
    START,
    ApiObject,
    ApiRequest,
    FakeRunAi,
    Reply,
    times,
    when,
)
from tests.support.clocks import FakeClock

PATH = "/api/v1/clusters"
CREDENTIALS = RunAiCredentials("app_token", "app-1", SECRET)


def on_path(request: ApiRequest) -> bool:
    return request.path == PATH


def on_token(request: ApiRequest) -> bool:
    return request.path == "/api/v1/token"


@pytest.fixture
def standin() -> FakeRunAi:
    return FakeRunAi()


@pytest.fixture
def time() -> FakeClock:
    return FakeClock(now_ms=START, epoch_ms=0)


@pytest.fixture
def api(standin: FakeRunAi, time: FakeClock) -> Iterator[RunAiClient]:
    with RunAiClient("https://acme.run.ai/", CREDENTIALS, time, lambda: 1.0, transport=standin.transport()) as api:
        yield api


def reason(ask: Callable[[], object]) -> str:
    with pytest.raises(Unavailable) as error:
        ask()
    assert SECRET not in str(error.value)
    return error.value.reason


# -- the token ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "body"),
    [
        ("app_token", {"grantType": "app_token", "AppId": "a", "AppSecret": SECRET}),
        ("client_credentials", {"grantType": "client_credentials", "clientID": "a", "clientSecret": SECRET}),
    ],
)
def test_a_token_is_requested_once_and_sent_with_every_call(
    standin: FakeRunAi, time: FakeClock, grant: str, body: dict[str, str]
) -> None:
    with RunAiClient(
        "https://x", RunAiCredentials(grant, "a", SECRET), time, lambda: 1.0, transport=standin.transport()
    ) as api:
        api.get(PATH)
        api.get(PATH)
    first, *calls = standin.requests
    assert (first.method, first.path, first.body) == ("POST", "/api/v1/token", body)
    assert [(a.path, a.token) for a in calls] == [(PATH, "token-1")] * 2


def test_a_token_is_renewed_before_it_expires(standin: FakeRunAi, time: FakeClock, api: RunAiClient) -> None:
    standin.expires_in = 600
    api.get(PATH)
    time.now_ms += 539_999
    api.get(PATH)
    assert standin.tokens == 1
    time.now_ms += 1
    api.get(PATH)
    assert standin.tokens == 2


def test_a_token_without_a_stated_lifetime_expires_by_its_claims(
    standin: FakeRunAi, time: FakeClock, api: RunAiClient
) -> None:
    claims = urlsafe_b64encode(b'{"iat": 1000, "exp": 1100}').decode().rstrip("=")
    standin.fault = times(1, Reply(200, {"accessToken": f"token-x.{claims}.sig"}), on_token)
    api.get(PATH)
    time.now_ms += 89_999
    api.get(PATH)
    assert standin.tokens == 0
    time.now_ms += 1
    api.get(PATH)
    assert standin.tokens == 1


def test_a_rejected_token_is_renewed_once(standin: FakeRunAi, api: RunAiClient) -> None:
    api.get(PATH)
    standin.expired.add("token-1")
    api.get(PATH)
    assert standin.requests[-1].token == "token-2"
    standin.fault = times(9, Reply(401, {"message": "no"}), on_path)
    assert reason(lambda: api.get(PATH)) == "status_401"
    assert standin.tokens == 3


def test_rejected_credentials_are_reported_without_the_secret(
    standin: FakeRunAi, time: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = RunAiCredentials("app_token", "app-1", "hunter2")
    with (
        RunAiClient("https://x", wrong, time, lambda: 1.0, transport=standin.transport()) as api,
        pytest.raises(Unavailable, match="app_secret") as error,
    ):
        api.get(PATH)
    assert error.value.lasting
    assert "hunter2" not in f"{error.value} {wrong!r} {caplog.text}"


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_transient_failure_is_retried_with_backoff(
    standin: FakeRunAi, time: FakeClock, api: RunAiClient, status: int
) -> None:
    standin.fault = times(ATTEMPTS - 1, Reply(status), on_path)
    assert api.get(PATH).body
    assert time.waits_s == [0.5, 1.0, 2.0]


def test_the_number_of_retries_is_bounded(standin: FakeRunAi, api: RunAiClient) -> None:
    standin.fault = times(99, Reply(500, {"code": 500, "message": "Something went wrong."}), on_path)
    with pytest.raises(Unavailable, match="answers 500: Something went wrong"):
        api.get(PATH)
    assert sum(map(on_path, standin.requests)) == ATTEMPTS


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_permanent_failure_is_not_retried(standin: FakeRunAi, api: RunAiClient, status: int) -> None:
    standin.fault = times(99, Reply(status, {"message": "no"}), on_path)
    assert reason(lambda: api.get(PATH)) == f"status_{status}"
    assert sum(map(on_path, standin.requests)) == 1


def test_a_slow_answer_times_out(standin: FakeRunAi, api: RunAiClient) -> None:
    standin.fault = times(1, Reply(0, slow=True), on_path)
    assert api.get(PATH).body
    standin.fault = times(99, Reply(0, slow=True), on_path)
    assert reason(lambda: api.get(PATH)) == "timeout"


@pytest.mark.parametrize("retry_after", ["7", when(START + 7_000)])
def test_retry_after_is_respected(standin: FakeRunAi, time: FakeClock, api: RunAiClient, retry_after: str) -> None:
    api.get(PATH)
    header = "Tue, 14 Nov 2023 22:13:07 GMT" if "T" in retry_after else retry_after
    standin.fault = times(1, Reply(429, headers={"Retry-After": header}), on_path)
    api.get(PATH)
    assert sum(time.waits_s) == 7
    assert time.now_ms == START + 7_000


def test_calls_fail_at_once_during_a_long_retry_after(standin: FakeRunAi, time: FakeClock, api: RunAiClient) -> None:
    standin.fault = times(1, Reply(503, headers={"Retry-After": "600"}), on_path)
    assert reason(lambda: api.get(PATH)) == "throttled"
    before = len(standin.requests)
    assert reason(lambda: api.get(PATH)) == "throttled"
    assert len(standin.requests) == before
    time.now_ms += 600_000
    assert api.get(PATH).body


def test_many_failures_in_a_row_end_the_calls_of_this_step(standin: FakeRunAi, api: RunAiClient) -> None:
    standin.fault = times(9_999, Reply(500), on_path)
    for _ in range(BRAKE):
        assert reason(lambda: api.get(PATH)) == "status_500"
    before = len(standin.requests)
    assert reason(lambda: api.get(PATH)) == "brake"
    assert len(standin.requests) == before
    api.release()
    standin.fault = lambda before: None
    assert api.get(PATH).body


def test_missing_workloads_do_not_end_the_calls_of_a_step(standin: FakeRunAi, api: RunAiClient) -> None:
    standin.fault = times(BRAKE + 1, Reply(404), on_path)
    for _ in range(BRAKE + 1):
        assert reason(lambda: api.get(PATH)) == "status_404"
    assert api.get(PATH).body


def test_a_stop_ends_a_wait(standin: FakeRunAi, time: FakeClock, api: RunAiClient) -> None:
    standin.fault, time.stopped = times(99, Reply(500), on_path), True
    assert reason(lambda: api.get(PATH)) == "stop"


def test_an_endless_answer_is_cut_off(time: FakeClock) -> None:
    def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=iter([b"x" * 2**20] * (MAX_BYTES // 2**20 + 2)))

    with (
        RunAiClient("https://x", CREDENTIALS, time, lambda: 1.0, transport=httpx.MockTransport(endless)) as api,
        pytest.raises(Unavailable, match="gives more than"),
    ):
        api.get(PATH)


def test_an_answer_that_trickles_is_cut_off(time: FakeClock) -> None:
    def trickle() -> Iterator[bytes]:
        while True:
            time.now_ms += 1_000
            yield b" "

    with RunAiClient(
        "https://x", CREDENTIALS, time, lambda: 1.0, timeout_s=5,
        transport=httpx.MockTransport(lambda _: httpx.Response(200, content=trickle())),
    ) as api:  # fmt: skip
        assert reason(lambda: api.get(PATH)) == "timeout"


def test_a_page_of_another_server_is_reported(standin: FakeRunAi, api: RunAiClient) -> None:
    standin.fault = times(1, Reply(200, b"<html>sign in</html>"), on_path)
    assert reason(RunAiListing(api, 100, ()).clusters) == "answer"


@pytest.mark.parametrize("reply", [Reply(200, {}), Reply(207, {"workloads": []}), Reply(200, {"measurements": []})])
def test_a_missing_or_partial_list_is_not_an_empty_list(standin: FakeRunAi, api: RunAiClient, reply: Reply) -> None:
    standin.fault = times(1, reply, lambda request: request.path == "/api/v1/workloads")
    assert reason(lambda: RunAiListing(api, 100, ()).workloads(WINDOW)) in ("answer", "partial")


# -- lists -------------------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    id: str


@given(st.integers(2, 7), st.integers(0, 30), st.lists(st.lists(st.integers(0, 29), max_size=3), max_size=12))
def test_remaining_items_are_listed_while_others_disappear_between_pages(
    size: int, count: int, gone: list[list[int]]
) -> None:
    items, going = [Item(str(n)) for n in range(count)], list(gone)
    stays = {i.id for i in items} - {str(n) for step in gone for n in step}

    def page(offset: int) -> tuple[Sequence[Item], bool]:
        chunk = items[offset : offset + size], offset + size < len(items)
        for n in going.pop(0) if going else ():
            items[:] = [i for i in items if i.id != str(n)]
        return chunk

    assert stays <= list_all(page, "items").keys()


def test_a_list_that_keeps_changing_is_reported() -> None:
    numbers = iter(range(10**6))
    with pytest.raises(Unavailable, match="changes faster"):
        list_all(lambda offset: ([Item(str(next(numbers))), Item(str(next(numbers)))], True), "items")


WINDOW = RunAiWindow(START, START + MINUTE_MS)


def test_workloads_of_a_window_are_those_that_existed_in_it(standin: FakeRunAi, api: RunAiClient) -> None:
    early, inside, late = START - 10**6, START + 1_000, START + 2 * MINUTE_MS
    ended = {"phase": "Completed", "born_ms": early}
    there = {
        "runs": ApiObject("runs", "a", born_ms=early),
        "began": ApiObject("began", "b", born_ms=inside),
        "ended": ApiObject("ended", "c", end_ms=inside, phase_ms=inside, **ended),
        "ended-after": ApiObject("ended-after", "d", end_ms=late, phase_ms=late, **ended),
        "deleted": ApiObject("deleted", "e", deleted_ms=inside, phase_ms=early, born_ms=early),
        "stopped": ApiObject("stopped", "f", phase="Stopped", phase_ms=late, born_ms=early),
    }
    others = {
        "not-yet": ApiObject("not-yet", "g", born_ms=late),
        "long-ended": ApiObject("long-ended", "h", end_ms=early, phase_ms=early, **ended),
        "long-deleted": ApiObject("long-deleted", "i", deleted_ms=early, born_ms=early),
        "waits": ApiObject("waits", "j", phase="Pending", phase_ms=early, born_ms=early),
    }
    standin.workloads = there | others
    assert set(RunAiListing(api, 2, ()).workloads(WINDOW)) == set(there)


def test_pods_of_a_window_are_those_that_existed_in_it(standin: FakeRunAi, api: RunAiClient) -> None:
    early, inside = START - 10**6, START + 1_000
    there = {
        "runs": ApiObject("runs", "a", born_ms=early, workload="w0"),
        "ended": ApiObject("ended", "b", born_ms=early, end_ms=inside, workload="w0"),
        "deleted": ApiObject("deleted", "c", born_ms=early, deleted_ms=inside, workload="w0"),
    }
    standin.pods = there | {"long-ended": ApiObject("long-ended", "d", born_ms=early, end_ms=early + 1, workload="w0")}
    assert set(RunAiListing(api, 2, ()).pods(WINDOW)) == set(there)


def test_a_workload_that_ends_while_lists_are_read_is_in_one_of_them(standin: FakeRunAi, api: RunAiClient) -> None:
    def end(request: ApiRequest) -> None:
        if request.path == "/api/v1/workloads":
            now = START + 61_000
            for workload in standin.workloads.values():
                workload.phase, workload.phase_ms, workload.end_ms = "Completed", now, now

    standin.after = end
    standin.workloads = {f"w{n}": ApiObject(f"w{n}", "x", born_ms=START - 100 + n) for n in range(5)}
    assert len(RunAiListing(api, 2, ()).workloads(WINDOW)) == 5


def test_configured_filters_are_sent(standin: FakeRunAi, api: RunAiClient) -> None:
    standin.workloads["w1"] = ApiObject("w1", "x", project="proj-2")
    assert set(RunAiListing(api, 100, ("projectName==proj-2",)).workloads(WINDOW)) == {"w1"}
    assert all("projectName==proj-2" in a.params["filterBy"] for a in standin.requests if "filterBy" in a.params)
