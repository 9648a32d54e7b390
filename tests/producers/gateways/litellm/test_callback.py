"""LiteLLM's callback and the reader of its files: no request waits for it, no prompt is written, no loss is silent."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cli.health_checks import run_checks
from contracts.errors import BadSetting, Unavailable
from contracts.events import TokenBatch
from contracts.settings import Settings
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.litellm.callback import MAX_TEXT, WattlogLogger, select_fields
from producers.gateways.litellm.callback_folder import OLD_MS, READ_BYTES, CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.runner import run
from producers.runtime.spool import Spool
from tests.producers.gateways.payloads import SECRET, T0, payload
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock, clock_at

NOW = T0 + 60_000


def send(logger: WattlogLogger, *payloads: Any) -> None:
    for one in payloads:
        asyncio.run(logger.async_log_success_event({"standard_logging_object": one, "messages": SECRET}, SECRET, 0, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "requests"


@pytest.fixture
def logger(folder: Path) -> Iterator[WattlogLogger]:
    logger = WattlogLogger(folder)
    yield logger
    logger.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


# -- the callback ------------------------------------------------------------------------------------------------------


def test_written_payloads_are_read_back(logger: WattlogLogger, folder: Path) -> None:
    payloads = [
        payload(),
        payload(id="2", custom_llm_provider="openai", response_cost=0.01),
        payload(id="3", cache_hit=True),
    ]
    send(logger, *payloads)
    logger.close()
    reader = LiteLLMReader(LiteLLMRules())
    assert [reader.call(line) for line in lines(folder)] == [reader.call(one) for one in payloads]
    assert (logger.written, logger.dropped) == (3, 0)


def test_no_prompt_no_answer_and_no_key_is_written(logger: WattlogLogger, folder: Path) -> None:
    address = f"https://host/v1?key={SECRET}"
    error = {"error_class": "BadRequestError", "error_message": SECRET}
    send(
        logger,
        payload(),
        payload(messages=SECRET, response=SECRET, api_base=address, error_information=error),
        payload(api_base="", hidden_params={"api_base": address}),
    )
    logger.close()
    [path] = folder.iterdir()
    text = path.read_text()
    assert len(text.splitlines()) == 3
    assert SECRET not in text
    assert "user_api_key_hash" not in text
    assert path.stat().st_mode & 0o077 == 0


def test_a_failure_is_written_and_a_repeated_request_counts_once(logger: WattlogLogger, folder: Path) -> None:
    failed = {"standard_logging_object": payload(status="failure")}
    asyncio.run(logger.async_log_failure_event(failed, None, 0, 1))
    logger.log_failure_event(failed, None, 0, 1)
    logger.close()
    result = source(folder).collect(None, clock_at(NOW))
    assert [len(batch.batch) for batch in result.batches] == [1]
    assert result.skipped == {"double": 1}


@pytest.mark.parametrize("call", [None, 7, {"id": {1, 2}}, {"startTime": float("nan")}])
def test_an_error_in_the_callback_fails_no_request(logger: WattlogLogger, call: Any) -> None:
    send(logger, call)
    asyncio.run(logger.async_log_success_event(None, None, 0, 1))
    send(logger, payload())
    logger.close()
    assert logger.dropped >= 1


def test_dropped_payloads_are_counted_and_reported_to_the_reader(folder: Path) -> None:
    logger = WattlogLogger(folder, max_queue=2)
    started = threading.Event()
    logger._run, run = started.wait, logger._run  # type: ignore[method-assign, assignment]
    send(logger, *(payload(id=str(n)) for n in range(5)))
    started.set()
    assert logger.dropped == 3
    logger._thread = threading.Thread(target=run)
    logger._thread.start()
    logger.close()
    result = source(folder).collect(None, clock_at(NOW))
    assert sum(len(batch.batch) for batch in result.batches) == 2
    [refusal] = result.refused
    assert '"wattlog_dropped": 3' in refusal


def test_a_full_folder_refuses_more_and_the_loss_is_counted(folder: Path) -> None:
    folder.mkdir()
    (folder / "old.jsonl").write_bytes(b"x" * 2**20)
    logger = WattlogLogger(folder, max_mb=1)
    send(logger, payload())
    logger.close()
    assert (logger.written, logger.dropped) == (0, 1)


def test_an_unwritable_folder_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    logger = WattlogLogger(tmp_path / "file" / "folder")
    send(logger, payload())
    logger.close()
    assert (logger.written, logger.dropped) == (0, 1)
    assert "cannot be written" in caplog.text


def test_a_file_is_closed_after_some_time_and_never_written_again(folder: Path) -> None:
    logger = WattlogLogger(folder, segment_s=-1)
    for _ in range(3):
        assert logger._write([b"{}"])
    logger._close_segment()
    assert [path.read_text() for path in folder.iterdir()] == ["{}\n"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_a_file_of_its_own(logger: WattlogLogger, folder: Path) -> None:
    send(logger, payload(id="parent"))
    logger.close()
    logger._process = -1  # As in the child of a fork: the parent's number, the parent's thread.
    send(logger, payload(id="child"))
    logger.close()
    assert {line["id"] for line in lines(folder)} == {"parent", "child"}
    assert len(list(folder.iterdir())) == 2


def test_values_are_bounded_and_of_plain_types() -> None:
    fields = select_fields(
        {"id": "x" * 5_000, "model": ["a"], "metadata": {"user_api_key_team_id": 7}, "cache_hit": True}
    )
    assert fields == {"id": "x" * MAX_TEXT, "metadata": {"user_api_key_team_id": 7}, "cache_hit": True}


# -- the reader --------------------------------------------------------------------------------------------------------


def source(folder: Path) -> CallbackFolder:
    return CallbackFolder(
        folder, LiteLLMReader(LiteLLMRules()), Deployments([Deployment(workload="chat", model="llama*")], "east")
    )


def append(folder: Path, name: str, *ids: str, end: bytes = b"\n") -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("ab") as file:
        file.write(b"".join(json.dumps(payload(id=i)).encode() + b"\n" for i in ids)[: -1 if ids else None] + end)
    os.utime(folder / name, (NOW / 1000, NOW / 1000))


def ids(result: Any) -> list[str]:
    return [i for batch in result.batches if isinstance(batch.batch, TokenBatch) for i in batch.batch.request_id]


def test_files_are_read_on_from_the_checkpoint(folder: Path) -> None:
    append(folder, "1.jsonl", "a", "b")
    append(folder, "2.jsonl", "c", end=b"")
    reader = source(folder)
    first = reader.collect(None, clock_at(NOW))
    assert (ids(first), [m.workload for m in first.batches]) == (["a", "b"], ["chat"])
    append(folder, "2.jsonl", end=b"\n")
    append(folder, "1.jsonl", "d")
    assert ids(reader.collect(first.checkpoint, clock_at(NOW))) == ["d", "c"]


def test_a_file_is_deleted_once_it_is_read_closed_and_its_checkpoint_is_stored(folder: Path) -> None:
    append(folder, "1.jsonl", "a")
    later = clock_at(NOW + OLD_MS + 1)
    result = source(folder).collect(None, later)
    assert (ids(result), len(list(folder.iterdir()))) == (["a"], 1)  # The checkpoint is not known to be stored yet.
    again = source(folder).collect(result.checkpoint, later)
    assert (ids(again), list(folder.iterdir())) == ([], [])
    assert ids(source(folder).collect(again.checkpoint, later)) == []


def test_a_file_that_may_still_be_written_is_not_deleted(folder: Path) -> None:
    append(folder, "1.jsonl", "a")
    mark = source(folder).collect(None, clock_at(NOW)).checkpoint
    source(folder).collect(mark, clock_at(NOW + OLD_MS - 1))
    assert len(list(folder.iterdir())) == 1


def test_the_last_line_of_a_killed_process_is_reported(folder: Path) -> None:
    append(folder, "1.jsonl", "a")
    append(folder, "1.jsonl", end=b'{"id": "b", "mod')
    result = source(folder).collect(None, clock_at(NOW + OLD_MS + 1))
    assert ids(result) == ["a"]
    assert result.refused[0].startswith(f"1.jsonl, byte {len(json.dumps(payload(id='a'))) + 1}: ")


def test_an_endless_line_is_refused_and_skipped(folder: Path) -> None:
    append(folder, "1.jsonl", end=b"x" * (READ_BYTES + 10) + b"\n")
    append(folder, "1.jsonl", "a")
    first = source(folder).collect(None, clock_at(NOW))
    assert "longer than" in first.refused[0]
    assert ids(source(folder).collect(first.checkpoint, clock_at(NOW))) == ["a"]


def test_many_lines_are_read_in_steps(folder: Path) -> None:
    for name in ("1.jsonl", "2.jsonl"):
        append(folder, name, *(f"{name}{n}" for n in range(700)))
    request_ids, mark, more, reads = list[str](), None, True, 0
    while more:
        step = source(folder).collect(mark, clock_at(NOW))
        request_ids, mark, more, reads = request_ids + ids(step), step.checkpoint, step.more, reads + 1
    assert (len(set(request_ids)), len(request_ids)) == (1_400, 1_400)
    assert reads > 2


def test_a_missing_folder_is_reported(folder: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        source(folder).collect(None, clock_at(NOW))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_each_request_is_on_the_log_once_through_kills(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool, bool]]
) -> None:
    folder, log, time, sent = tmp_path_factory.mktemp("litellm"), FakeBroker(), FakeClock(10**12), 0
    time.now_ms = 60_000
    requests = folder / "requests"
    requests.mkdir()
    for number, (rounds, log.silent, ages) in enumerate(runs):
        with closing(Spool(folder / "spool.db")) as spool:
            follow = PollLoop(
                [source(requests)],
                Delivery(spool, log),
                time,
                spool.checkpoints(),
                PollLoopMetrics(CollectorRegistry()),
            )
            for _ in range(rounds):
                append(requests, f"{number}.jsonl", *(f"r{sent + n}" for n in range(3)))
                sent += 3
                follow.poll_due()
                time.now_ms += 1_000
        time.now_ms += 2 * OLD_MS if ages else 0
        log.forget()  # Messages in flight are lost with the process, and their answers too.
    log.silent = False
    with closing(Spool(folder / "spool.db")) as spool:
        follow = PollLoop(
            [source(requests)], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
        )
        for _ in range(4):
            follow.poll_due()
            time.now_ms += 2 * OLD_MS
    distinct = {(e.source, e.epoch, e.seq): e.batch for e in log.stored}  # as a worker sees them
    request_ids = [i for b in distinct.values() if isinstance(b, TokenBatch) for i in b.request_id]
    assert sorted(request_ids) == sorted(f"r{n}" for n in range(sent))
    assert list(requests.iterdir()) == []


# -- the producer ------------------------------------------------------------------------------------------------------


def test_doctor_shows_the_contents_of_the_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wattlog.toml").write_text(f'[produce.litellm]\nfolder = "{folder}"\n')
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))

    def read_finding() -> tuple[str, str]:
        [finding] = [f for f in islice(run_checks(Settings()), 2) if f.check == "litellm"]
        return finding.state, finding.says

    assert read_finding()[0] == "failed"
    append(folder, "1.jsonl", end=b"1234567")
    assert read_finding() == ("ok", f"{folder}: 1 files of the callback, 7 bytes")


def test_a_missing_folder_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match="say which folder"):
        run("litellm", Settings(), threading.Event())
