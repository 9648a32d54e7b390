"""A later report of a call replaces the tokens that were estimated for it, in each intake that has estimates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.events import TokenBatch, UsageBatch
from contracts.settings import Settings
from contracts.units import rfc3339
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.estimates import REPLACED
from producers.gateways.litellm.callback_folder import CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.receivers.cloudevents.request_rules import RequestRule
from producers.receivers.plugin import HttpConfig, build_route
from producers.runtime import estimated_calls
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.estimated_calls import CALLS_A_PART, PARTS, EstimatedCall, EstimatedCalls
from producers.runtime.receiver.door import SenderRules
from producers.runtime.receiver.routes import open_routes
from tests.producers.frame import environment
from tests.producers.gateways.payloads import T0, payload
from tests.producers.runtime.receiver.listener import MANY, NOW_MS, Listener, UsageBroker, event, listening
from tests.support.clocks import FixedWallClock

CONFIG = """
[[produce.requests.deployments]]
model = "llama*"
workload = "chat"
[[produce.litellm.deployments]]
model = "llama*"
workload = "chat"
"""


def request(estimated: bool = False, *, id: str = "r1", prompt: int = 100, completion: int = 20, **more: Any) -> Any:
    counts = {"estimated_prompt_tokens": prompt, "estimated_completion_tokens": completion} if estimated else {}
    return {
        "id": id, "tenant": "acme", "model": "llama", "start": NOW_MS - 5_000, "end": NOW_MS - 2_000,
        "prompt_tokens": prompt, "completion_tokens": completion, **counts, **more,
    }  # fmt: skip


def litellm(estimated: bool = False, *, id: str = "r1", prompt: int = 100, completion: int = 20, **more: Any) -> Any:
    details = None if estimated else {"cached_tokens": 0}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    metadata = {"user_api_key_team_id": "acme", "usage_object": usage}
    return payload(
        id=id, litellm_call_id=f"call {id}", model="llama", prompt_tokens=prompt, completion_tokens=completion,
        total_tokens=prompt + completion, response={}, model_parameters={}, metadata=metadata,
        startTime=(NOW_MS - 5_000) / 1000, endTime=(NOW_MS - 2_000) / 1000, completionStartTime=None, **more,
    )  # fmt: skip


def cloud_event(estimated: bool = False, *, id: str = "r1", prompt: int = 100, completion: int = 20) -> Any:
    data = {"model": "llama", "in": prompt, "out": completion, "guess": prompt if estimated else 0, "ms": 3_000}
    return event(id, type="completion", data=data)


RULE = RequestRule(
    event_type="completion", workload="$.model",
    fields={
        "model": "$.model", "prompt_tokens": "$.in", "completion_tokens": "$.out",
        "estimated_prompt_tokens": "$.guess", "duration_ms": "$.ms",
    },
)  # fmt: skip
INTAKES = {"/v1/requests": request, "/litellm": litellm, "/api/v1/events": cloud_event}


@contextmanager
def receiver(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broker: UsageBroker, door: SenderRules
) -> Iterator[Listener]:
    (folder / "wattlog.toml").write_text(CONFIG)
    monkeypatch.setenv("WATTLOG_CONFIG", str(folder / "wattlog.toml"))
    around = environment(Settings(cluster="east", data=folder))
    routes = [r for r in open_routes(around) if r.kind != "cloudevents"]
    events = build_route(HttpConfig(requests=(RULE,)), around)
    memory = DeduplicationWindow()
    with listening(folder, intakes=routes, events_route=events, broker=broker, recent=memory, door=door) as one:
        yield one


class Intake:
    """A receiver that starts for each post, with the spool of the one before. `max_age_ms` is that of its door."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch, self._broker = folder, monkeypatch, UsageBroker()
        self.answer: Any = None
        self.replaced = self.left_out = 0.0
        self.max_age_ms: int | None = None

    def post(self, path: str, *items: Any) -> list[Any]:
        """Post items; return all batches on the log."""
        door = SenderRules(max_age_ms=self.max_age_ms)
        with receiver(self._folder, self._monkeypatch, self._broker, door) as listener:
            content_type = MANY if path.endswith("events") else "application/json"
            answer = listener.client.post(path, content=json.dumps(items), headers={"content-type": content_type})
            assert answer.status_code == 202, answer.text
            self.answer = answer.json() if answer.content else None
            self.replaced = listener.count("corrected_rows_total", route=path, why=REPLACED)
            self.left_out = listener.count("left_out_rows_total", route=path)
        return [e.batch for e in self._broker.stored]


@pytest.fixture
def intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Intake:
    return Intake(tmp_path, monkeypatch)


def sums(batches: Sequence[Any]) -> Counter[str]:
    """Sums of what is on the log, as the core adds it up."""
    total: Counter[str] = Counter()
    for batch in batches:
        if not isinstance(batch, TokenBatch):
            continue
        for n in range(len(batch)):
            number = 1 if batch.requests is None else int(batch.requests[n])
            total["requests"] += number
            for name in ("prompt_tokens", "completion_tokens", "estimated_prompt_tokens"):
                total[name] += (-1 if number < 0 else 1) * int(batch.tokens(name)[n])
    return total


REPORTED = {"requests": 1, "prompt_tokens": 90, "completion_tokens": 30, "estimated_prompt_tokens": 0}


@pytest.mark.parametrize("path", INTAKES)
def test_a_report_replaces_the_estimate_also_after_a_restart(intake: Intake, path: str) -> None:
    call = INTAKES[path]
    estimated = {"requests": 1, "prompt_tokens": 100, "completion_tokens": 20, "estimated_prompt_tokens": 100}
    assert sums(intake.post(path, call(True))) == estimated
    assert sums(intake.post(path, call(prompt=90, completion=30))) == REPORTED
    assert intake.replaced == 1


@pytest.mark.parametrize("path", INTAKES)
def test_a_report_in_the_body_of_its_estimate_replaces_it(intake: Intake, path: str) -> None:
    call = INTAKES[path]
    assert sums(intake.post(path, call(True), call(True, id="r2"), call(prompt=90, completion=30))) == {
        "requests": 2, "prompt_tokens": 190, "completion_tokens": 50, "estimated_prompt_tokens": 100,
    }  # fmt: skip


@pytest.mark.parametrize("path", INTAKES)
@pytest.mark.parametrize("again", [{"estimated": True}, {"estimated": True, "prompt": 7}, {"prompt": 7}])
def test_only_the_first_report_replaces_an_estimate(intake: Intake, path: str, again: dict[str, Any]) -> None:
    call = INTAKES[path]
    if not again.get("estimated"):
        intake.post(path, call(True))
        intake.post(path, call(prompt=90, completion=30))
        assert sums(intake.post(path, call(**again))) == REPORTED
    else:
        intake.post(path, call(True))
        assert sums(intake.post(path, call(**again)))["prompt_tokens"] == 100
        assert sums(intake.post(path, call(prompt=90, completion=30))) == REPORTED


@pytest.mark.parametrize("path", INTAKES)
def test_a_report_for_an_estimate_that_is_too_old_does_not_take_its_batch_along(intake: Intake, path: str) -> None:
    call = INTAKES[path]
    intake.post(path, call(True))
    new = {"start": NOW_MS - 400, "end": NOW_MS} if path == "/v1/requests" else {}
    new = {"endTime": NOW_MS / 1000} if path == "/litellm" else new
    intake.max_age_ms = 1_000
    for _ in range(2):  # A sender may send all of it again.
        batches = intake.post(path, recent(call(prompt=90, completion=30), new), recent(call(id="r2"), new))
        assert (sums(batches)["requests"], sums(batches)["estimated_prompt_tokens"]) == (2, 100)
        assert (intake.left_out, intake.replaced) == (1, 0)
    if path != "/litellm":
        [error] = intake.answer["errors"]
        assert (error["index"], error["field"], "max_age_ms" in error["detail"]) == (0, "end", True)


def recent(item: dict[str, Any], times: dict[str, Any]) -> dict[str, Any]:
    """The item, at a time that is now."""
    return item | (times or {"time": rfc3339(NOW_MS)})


@pytest.mark.parametrize("path", INTAKES)
def test_an_estimate_does_not_replace_a_report(intake: Intake, path: str) -> None:
    intake.post(path, INTAKES[path](prompt=90, completion=30))
    assert sums(intake.post(path, INTAKES[path](True))) == REPORTED


def test_the_answer_counts_what_was_replaced(intake: Intake) -> None:
    intake.post("/v1/requests", request(True))
    intake.post("/v1/requests", request(prompt=90), request(id="r2"))
    answer = {"accepted": 1, "duplicates": 0, "refused": 0, "replaced_estimates": 1}
    assert intake.answer == answer


def test_payer_place_and_times_stay_as_they_were_first_sent(intake: Intake) -> None:
    intake.post("/v1/requests", request(True, application="shop", user="u1", session_id="s1"))
    later = request(prompt=90, model="other", start=NOW_MS - 4_000, application="web", session_id="s2")
    first, batch = intake.post("/v1/requests", later)
    assert (batch.models, batch.application, batch.session_id) == (("llama",), ("shop", "shop"), ("s1", "s1"))
    assert (batch.t_start_ms.tolist(), batch.user) == ([NOW_MS - 5_000] * 2, first.user * 2)
    assert batch.requests.tolist() == [-1, 1]


def test_a_price_that_was_estimated_grows_to_the_reported_one(intake: Intake) -> None:
    outside = {"custom_llm_provider": "openai", "model": "gpt"}
    batches = intake.post("/litellm", litellm(True, response_cost=0.02) | outside)
    batches = intake.post("/litellm", litellm(prompt=90, completion=30, response_cost=0.0125) | outside)
    assert sums(batches) == REPORTED
    quantities = [q for batch in batches if isinstance(batch, UsageBatch) for q in batch.quantity]
    assert quantities == ["0.02", "-0.0075"]
    ids = [i for batch in batches if isinstance(batch, UsageBatch) for i in batch.event_id]
    assert len(set(ids)) == 2


def test_the_callbacks_folder_replaces_estimates_too(tmp_path: Path) -> None:
    rules = Deployments([Deployment(workload="chat", model="llama*")], "east")
    folder = CallbackFolder(tmp_path, LiteLLMReader(LiteLLMRules()), rules)
    path, batches, checkpoint = tmp_path / "a.jsonl", list[Any](), None
    for line in (litellm(True), litellm(prompt=90, completion=30), litellm(prompt=90, completion=30)):
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        result = folder.collect(checkpoint, FixedWallClock(NOW_MS))
        batches, checkpoint = [*batches, *(b.batch for b in result.batches)], result.checkpoint
    assert sums(batches) == REPORTED
    assert result.skipped == {"double": 1}


def estimate(n: int) -> EstimatedCall:
    return EstimatedCall("c", "w", {"tenant": "acme", "t_start_ms": T0}, "", (n,))


def test_the_oldest_estimates_make_room_and_the_others_survive_a_restart() -> None:
    calls, on_disk, many = EstimatedCalls(), dict[str, bytes](), (PARTS + 2) * CALLS_A_PART
    for n in range(many):
        calls.apply({n: (None, estimate(n))})
        on_disk |= calls.changed_parts()
        calls.mark_stored()
    calls.apply({many - 1: (estimate(many - 1), None)})
    on_disk |= calls.changed_parts()
    again = EstimatedCalls()
    again.load(on_disk)
    for one in (calls, again):
        assert len(one) == PARTS * CALLS_A_PART - 1
        assert (one.get(0), one.get(many - 1), one.get(many - 2)) == (None, None, estimate(many - 2))


def test_a_second_report_at_the_same_time_is_sent_again_and_counts_once() -> None:
    calls = EstimatedCalls()
    calls.apply({1: (None, estimate(1))})
    removal = {1: (estimate(1), None)}
    assert calls.fits(removal)
    calls.apply(removal)
    assert not calls.fits(removal)
    calls.undo(removal)
    assert calls.get(1) == estimate(1)


def test_a_column_of_another_version_is_left_out_of_a_remembered_row() -> None:
    row = {"tenant": "a", "model": "m", "request_id": "r", "t_start_ms": 1, "t_first_ms": 0, "t_end_ms": 2,
           "prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 2}  # fmt: skip
    assert estimated_calls.EstimatedCall("c", "w", {**row, "gone": 7}, "", ()).row.tenant == "a"
