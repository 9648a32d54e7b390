"""Run:ai's API when it is slow, busy, broken or forgetful; and lists that change while they are read."""

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
from tests.producers.runai.stand_in import MINUTE_MS, SECRET, START, Asked, Reply, Standin, Thing, times, when
from tests.support.clocks import FakeClock

PATH = "/api/v1/clusters"
CREDENTIALS = RunAiCredentials("app_token", "app-1", SECRET)


def on_path(asked: Asked) -> bool:
    return asked.path == PATH


def on_token(asked: Asked) -> bool:
    return asked.path == "/api/v1/token"


@pytest.fixture
def standin() -> Standin:
    return Standin()


@pytest.fixture
def time() -> FakeClock:
    return FakeClock(now_ms=START, epoch_ms=0)


@pytest.fixture
def api(standin: Standin, time: FakeClock) -> Iterator[RunAiClient]:
    with RunAiClient("https://acme.run.ai/", CREDENTIALS, time, lambda: 1.0, transport=standin.transport()) as api:
        yield api


def reason(ask: Callable[[], object]) -> str:
    with pytest.raises(Unavailable) as told:
        ask()
    assert SECRET not in str(told.value)
    return told.value.reason


# -- the token ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "body"),
    [
        ("app_token", {"grantType": "app_token", "AppId": "a", "AppSecret": SECRET}),
        ("client_credentials", {"grantType": "client_credentials", "clientID": "a", "clientSecret": SECRET}),
    ],
)
def test_a_token_is_asked_for_once_and_sent_with_every_call(
    standin: Standin, time: FakeClock, grant: str, body: dict[str, str]
) -> None:
    with RunAiClient(
        "https://x", RunAiCredentials(grant, "a", SECRET), time, lambda: 1.0, transport=standin.transport()
    ) as api:
        api.get(PATH)
        api.get(PATH)
    first, *calls = standin.asked
    assert (first.method, first.path, first.body) == ("POST", "/api/v1/token", body)
    assert [(a.path, a.token) for a in calls] == [(PATH, "token-1")] * 2


def test_a_token_is_renewed_before_it_ends(standin: Standin, time: FakeClock, api: RunAiClient) -> None:
    standin.expires_in = 600
    api.get(PATH)
    time.now_ms += 539_999
    api.get(PATH)
    assert standin.tokens == 1
    time.now_ms += 1
    api.get(PATH)
    assert standin.tokens == 2


def test_a_token_that_says_nothing_of_its_life_is_believed_by_its_claims(
    standin: Standin, time: FakeClock, api: RunAiClient
) -> None:
    claims = urlsafe_b64encode(b'{"iat": 1000, "exp": 1100}').decode().rstrip("=")
    standin.odd = times(1, Reply(200, {"accessToken": f"token-x.{claims}.sig"}), on_token)
    api.get(PATH)
    time.now_ms += 89_999
    api.get(PATH)
    assert standin.tokens == 0
    time.now_ms += 1
    api.get(PATH)
    assert standin.tokens == 1


def test_a_token_that_is_not_taken_any_more_is_renewed_once(standin: Standin, api: RunAiClient) -> None:
    api.get(PATH)
    standin.expired.add("token-1")
    api.get(PATH)
    assert standin.asked[-1].token == "token-2"
    standin.odd = times(9, Reply(401, {"message": "no"}), on_path)
    assert reason(lambda: api.get(PATH)) == "status_401"
    assert standin.tokens == 3


def test_credentials_that_are_not_taken_are_told_without_the_secret(
    standin: Standin, time: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = RunAiCredentials("app_token", "app-1", "hunter2")
    with (
        RunAiClient("https://x", wrong, time, lambda: 1.0, transport=standin.transport()) as api,
        pytest.raises(Unavailable, match="app_secret") as told,
    ):
        api.get(PATH)
    assert told.value.lasting
    assert "hunter2" not in f"{told.value} {wrong!r} {caplog.text}"


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_call_that_may_help_to_repeat_is_repeated_with_backoff(
    standin: Standin, time: FakeClock, api: RunAiClient, status: int
) -> None:
    standin.odd = times(ATTEMPTS - 1, Reply(status), on_path)
    assert api.get(PATH).body
    assert time.waits_s == [0.5, 1.0, 2.0]


def test_a_call_is_repeated_no_more_than_so_often(standin: Standin, api: RunAiClient) -> None:
    standin.odd = times(99, Reply(500, {"code": 500, "message": "Something went wrong."}), on_path)
    with pytest.raises(Unavailable, match="answers 500: Something went wrong"):
        api.get(PATH)
    assert sum(map(on_path, standin.asked)) == ATTEMPTS


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_call_that_no_repetition_helps_is_not_repeated(standin: Standin, api: RunAiClient, status: int) -> None:
    standin.odd = times(99, Reply(status, {"message": "no"}), on_path)
    assert reason(lambda: api.get(PATH)) == f"status_{status}"
    assert sum(map(on_path, standin.asked)) == 1


def test_a_slow_answer_is_not_waited_for(standin: Standin, api: RunAiClient) -> None:
    standin.odd = times(1, Reply(0, slow=True), on_path)
    assert api.get(PATH).body
    standin.odd = times(99, Reply(0, slow=True), on_path)
    assert reason(lambda: api.get(PATH)) == "timeout"


@pytest.mark.parametrize("retry_after", ["7", when(START + 7_000)])
def test_it_is_left_alone_for_as_long_as_it_says(
    standin: Standin, time: FakeClock, api: RunAiClient, retry_after: str
) -> None:
    api.get(PATH)
    said = "Tue, 14 Nov 2023 22:13:07 GMT" if "T" in retry_after else retry_after
    standin.odd = times(1, Reply(429, headers={"Retry-After": said}), on_path)
    api.get(PATH)
    assert sum(time.waits_s) == 7
    assert time.now_ms == START + 7_000


def test_where_that_is_long_calls_fail_at_once_until_then(standin: Standin, time: FakeClock, api: RunAiClient) -> None:
    standin.odd = times(1, Reply(503, headers={"Retry-After": "600"}), on_path)
    assert reason(lambda: api.get(PATH)) == "throttled"
    asked = len(standin.asked)
    assert reason(lambda: api.get(PATH)) == "throttled"
    assert len(standin.asked) == asked
    time.now_ms += 600_000
    assert api.get(PATH).body


def test_after_many_failures_in_a_row_nothing_more_is_asked_in_this_step(standin: Standin, api: RunAiClient) -> None:
    standin.odd = times(9_999, Reply(500), on_path)
    for _ in range(BRAKE):
        assert reason(lambda: api.get(PATH)) == "status_500"
    asked = len(standin.asked)
    assert reason(lambda: api.get(PATH)) == "brake"
    assert len(standin.asked) == asked
    api.release()
    standin.odd = lambda asked: None
    assert api.get(PATH).body


def test_workloads_that_are_gone_are_no_reason_to_ask_nothing_more(standin: Standin, api: RunAiClient) -> None:
    standin.odd = times(BRAKE + 1, Reply(404), on_path)
    for _ in range(BRAKE + 1):
        assert reason(lambda: api.get(PATH)) == "status_404"
    assert api.get(PATH).body


def test_a_stop_ends_a_wait(standin: Standin, time: FakeClock, api: RunAiClient) -> None:
    standin.odd, time.stopped = times(99, Reply(500), on_path), True
    assert reason(lambda: api.get(PATH)) == "stop"


def test_an_answer_without_end_is_cut_off(time: FakeClock) -> None:
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


def test_a_page_of_somebody_else_is_told(standin: Standin, api: RunAiClient) -> None:
    standin.odd = times(1, Reply(200, b"<html>sign in</html>"), on_path)
    assert reason(RunAiListing(api, 100, ()).clusters) == "answer"


@pytest.mark.parametrize("reply", [Reply(200, {}), Reply(207, {"workloads": []}), Reply(200, {"measurements": []})])
def test_a_list_that_is_not_there_or_not_whole_is_not_an_empty_list(
    standin: Standin, api: RunAiClient, reply: Reply
) -> None:
    standin.odd = times(1, reply, lambda asked: asked.path == "/api/v1/workloads")
    assert reason(lambda: RunAiListing(api, 100, ()).workloads(WINDOW)) in ("answer", "partial")


# -- lists -------------------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    id: str


@given(st.integers(2, 7), st.integers(0, 30), st.lists(st.lists(st.integers(0, 29), max_size=3), max_size=12))
def test_what_stays_is_listed_whatever_goes_while_pages_are_read(size: int, count: int, gone: list[list[int]]) -> None:
    items, going = [Item(str(n)) for n in range(count)], list(gone)
    stays = {i.id for i in items} - {str(n) for step in gone for n in step}

    def page(offset: int) -> tuple[Sequence[Item], bool]:
        found = items[offset : offset + size], offset + size < len(items)
        for n in going.pop(0) if going else ():
            items[:] = [i for i in items if i.id != str(n)]
        return found

    assert stays <= list_all(page, "items").keys()


def test_a_list_that_never_stands_still_is_told() -> None:
    numbers = iter(range(10**6))
    with pytest.raises(Unavailable, match="changes faster"):
        list_all(lambda offset: ([Item(str(next(numbers))), Item(str(next(numbers)))], True), "items")


WINDOW = RunAiWindow(START, START + MINUTE_MS)


def test_workloads_of_a_window_are_those_that_were_there_then(standin: Standin, api: RunAiClient) -> None:
    early, inside, late = START - 10**6, START + 1_000, START + 2 * MINUTE_MS
    ended = {"phase": "Completed", "born_ms": early}
    there = {
        "runs": Thing("runs", "a", born_ms=early),
        "began": Thing("began", "b", born_ms=inside),
        "ended": Thing("ended", "c", end_ms=inside, phase_ms=inside, **ended),
        "ended-after": Thing("ended-after", "d", end_ms=late, phase_ms=late, **ended),
        "deleted": Thing("deleted", "e", deleted_ms=inside, phase_ms=early, born_ms=early),
        "stopped": Thing("stopped", "f", phase="Stopped", phase_ms=late, born_ms=early),
    }
    others = {
        "not-yet": Thing("not-yet", "g", born_ms=late),
        "long-ended": Thing("long-ended", "h", end_ms=early, phase_ms=early, **ended),
        "long-deleted": Thing("long-deleted", "i", deleted_ms=early, born_ms=early),
        "waits": Thing("waits", "j", phase="Pending", phase_ms=early, born_ms=early),
    }
    standin.workloads = there | others
    assert set(RunAiListing(api, 2, ()).workloads(WINDOW)) == set(there)


def test_pods_of_a_window_are_those_that_were_there_then(standin: Standin, api: RunAiClient) -> None:
    early, inside = START - 10**6, START + 1_000
    there = {
        "runs": Thing("runs", "a", born_ms=early, workload="w0"),
        "ended": Thing("ended", "b", born_ms=early, end_ms=inside, workload="w0"),
        "deleted": Thing("deleted", "c", born_ms=early, deleted_ms=inside, workload="w0"),
    }
    standin.pods = there | {"long-ended": Thing("long-ended", "d", born_ms=early, end_ms=early + 1, workload="w0")}
    assert set(RunAiListing(api, 2, ()).pods(WINDOW)) == set(there)


def test_a_workload_that_ends_while_lists_are_read_is_in_one_of_them(standin: Standin, api: RunAiClient) -> None:
    def end(asked: Asked) -> None:
        if asked.path == "/api/v1/workloads":
            now = START + 61_000
            for thing in standin.workloads.values():
                thing.phase, thing.phase_ms, thing.end_ms = "Completed", now, now

    standin.after = end
    standin.workloads = {f"w{n}": Thing(f"w{n}", "x", born_ms=START - 100 + n) for n in range(5)}
    assert len(RunAiListing(api, 2, ()).workloads(WINDOW)) == 5


def test_own_filters_are_sent_along(standin: Standin, api: RunAiClient) -> None:
    standin.workloads["w1"] = Thing("w1", "x", project="proj-2")
    assert set(RunAiListing(api, 100, ("projectName==proj-2",)).workloads(WINDOW)) == {"w1"}
    assert all("projectName==proj-2" in a.params["filterBy"] for a in standin.asked if "filterBy" in a.params)
