"""The event log on disk: offsets, what is committed, its bounds, and one process at a time."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from contracts.errors import Unavailable
from streams.disk_log import log_file
from streams.disk_log.client import DiskLogClient, LogAppender
from streams.disk_log.log_file import DiskLog, LogFull, NewMessage
from tests.support.waiting import wait_until

NOW = 1_758_000_000_000
HEADERS = [("ce_id", b"1.0"), ("ce_source", b"\xff\x00")]


def message(value: bytes | None = b"x", topic: str = topics.POWER) -> NewMessage:
    return NewMessage(topic, HEADERS, value)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DiskLog]:
    with closing(DiskLog(tmp_path / "log.db", max_bytes=10_000)) as log:
        yield log


def reopened(log: DiskLog) -> DiskLog:
    log.close()
    return DiskLog(log.path, max_bytes=10_000)


def values(log: DiskLog, topic: str = topics.POWER, offset: int = 0) -> list[tuple[int, bytes | None]]:
    return [(m.offset, m.value) for m in log.read(topic, offset)]


def test_offsets_of_each_topic_rise_by_one(log: DiskLog) -> None:
    log.append([message(b"a"), message(b"t", topics.TOKENS), message(None)], NOW)
    log.append([message(b"c")], NOW + 1)
    assert values(log) == [(0, b"a"), (1, None), (2, b"c")]
    assert values(log, topics.TOKENS) == [(0, b"t")]
    assert [log.end(topic) for topic in topics.JOINED] == [3, 1]


def test_a_message_is_read_as_it_was_appended(log: DiskLog) -> None:
    log.append([message(b"\x00\xff")], NOW)
    [stored] = log.read(topics.POWER, 0)
    assert (list(map(tuple, stored.headers)), stored.value, stored.append_ms) == (HEADERS, b"\x00\xff", NOW)


def test_a_committed_message_is_deleted_and_its_offset_is_never_used_again(log: DiskLog) -> None:
    log.append([message(b"a"), message(b"b")], NOW)
    log.commit({topics.POWER: 2})
    assert (values(log), log.bytes) == ([], 0)
    with closing(reopened(log)) as again:
        again.append([message(b"c")], NOW)
        assert (values(again), again.committed(topics.POWER)) == ([(2, b"c")], 2)


def test_a_log_keeps_its_identity_and_another_has_another(log: DiskLog, tmp_path: Path) -> None:
    name = log.log_id
    with closing(reopened(log)) as again, closing(DiskLog(tmp_path / "b.db", max_bytes=1)) as other:
        assert again.log_id == name != other.log_id


def test_a_full_log_refuses_all_of_an_append_until_something_is_stored(log: DiskLog) -> None:
    log.append([message(b"x" * 6_000)], NOW)
    with pytest.raises(LogFull, match="is full"):
        log.append([message(b"a"), message(b"y" * 6_000)], NOW)
    assert log.end(topics.POWER) == 1
    log.commit({topics.POWER: 1})
    log.append([message(b"a"), message(b"y" * 6_000)], NOW)


def test_a_message_larger_than_the_bound_is_taken_alone(log: DiskLog) -> None:
    log.append([message(b"x" * 20_000)], NOW)
    assert log.end(topics.POWER) == 1


def test_a_dead_letter_has_room_in_a_full_log_and_the_newest_stay(
    log: DiskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "LETTERS_BYTES", 2_500)
    log.append([message(b"x" * 20_000)], NOW)
    before = log.bytes
    for n in range(5):
        log.append_letter(message(bytes([n]) * 1_000, topics.DEADLETTER), NOW)
    assert [offset for offset, _ in values(log, topics.DEADLETTER)] == [3, 4]
    assert log.bytes - before == sum(message(b"x" * 1_000).size for _ in range(2))


def test_a_read_is_bounded_but_never_empty(log: DiskLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "READ_BYTES", 250)
    log.append([message(b"x" * 500), message(b"a"), message(b"b"), message(b"c")], NOW)
    assert [[offset for offset, _ in values(log, offset=at)] for at in (0, 1, 4)] == [[0], [1, 2], []]


def test_a_second_process_is_refused_by_name(log: DiskLog) -> None:
    with pytest.raises(Unavailable, match="Another process has the log"):
        DiskLog(log.path, max_bytes=1)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(Unavailable, match="cannot be used"):
        DiskLog(tmp_path / "log.db", max_bytes=1)


def test_a_log_of_a_later_version_is_refused(log: DiskLog) -> None:
    log.close()
    with closing(sqlite3.connect(log.path)) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(Unavailable, match="later version"):
        DiskLog(log.path, max_bytes=1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.sampled_from(topics.JOINED), max_size=4)),
        st.tuples(st.just("commit"), st.sampled_from(topics.JOINED)),
        st.tuples(st.just("kill"), st.none()),
    ),
    max_size=12,
)


@given(STEPS)
def test_nothing_that_was_appended_and_not_committed_is_lost(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object]]
) -> None:
    """A copy of the files, taken without closing, is what kill -9 leaves."""
    log = DiskLog(tmp_path_factory.mktemp("log") / "log.db", max_bytes=10**6)
    expected: dict[str, list[int]] = {topic: [] for topic in topics.JOINED}
    for action, subject in steps:
        if action == "append":
            assert isinstance(subject, list)
            for topic in topics.JOINED:
                expected[topic] += range(log.end(topic), log.end(topic) + subject.count(topic))
            log.append([message(topic=topic) for topic in subject], NOW)
        elif action == "commit":
            assert isinstance(subject, str)
            log.commit({subject: log.end(subject)})
            expected[subject] = []
        else:
            copy = tmp_path_factory.mktemp("log")
            for path in log.path.parent.glob("log.db*"):
                shutil.copy(path, copy)
            log.close()
            log = DiskLog(copy / "log.db", max_bytes=10**6)
    assert {topic: [m.offset for m in log.read(topic, 0)] for topic in topics.JOINED} == expected
    log.close()


class Sender:
    """A producer on a client, and the answers that it got."""

    def __init__(self, client: DiskLogClient) -> None:
        self.client, self.answers = client, list[str | None]()

    def send(self, value: bytes) -> None:
        self.client.send_raw(topics.POWER, b"k", HEADERS, value, timestamp_ms=NOW, on_delivery=self.answers.append)


def test_a_message_is_acknowledged_when_it_is_on_disk(log: DiskLog) -> None:
    appender = LogAppender(log)
    with appender.client() as client:
        sender = Sender(client)
        sender.send(b"a")
        wait_until(lambda: bool(sender.answers), meanwhile=client.poll)
        assert (sender.answers, values(log)) == ([None], [(0, b"a")])
    appender.close()


def test_a_refusal_reaches_the_sender_with_its_reason(log: DiskLog) -> None:
    log.append([message(b"x" * 20_000)], NOW)
    appender = LogAppender(log)
    with appender.client() as client:
        sender = Sender(client)
        sender.send(b"a")
        wait_until(lambda: bool(sender.answers), meanwhile=client.poll)
        assert sender.answers[0] is not None and "is full" in sender.answers[0]
    appender.close()


def test_the_end_appends_what_waits(log: DiskLog) -> None:
    appender = LogAppender(log)
    with appender.client() as client:
        sender = Sender(client)
        for n in range(50):
            sender.send(b"%d" % n)
    appender.close()
    assert log.end(topics.POWER) == 50
