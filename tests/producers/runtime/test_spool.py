"""The spool: events and their checkpoints are stored together, or neither is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import topics
from contracts.errors import Unavailable
from producers.runtime.spool import Outgoing, Spool, SpoolFull
from tests.support.paths import ROOT


def message(n: int, size: int = 10, topic: str = topics.POWER) -> Outgoing:
    return Outgoing(topic, b"c/w", [("ce_id", f"1.{n}".encode())], bytes([n % 256]) * size, 1000 + n)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "producer" / "spool.db"


def test_waiting_events_and_checkpoints_survive_a_restart(path: Path) -> None:
    spool = Spool(path)
    numbers = spool.put([message(1), message(2)], {"GPU-a": b"500"})
    spool.put([message(3)], {"GPU-a": b"700", "GPU-b": b"1"})
    spool.discard([numbers[0]])
    spool.close()
    again = Spool(path)
    assert [m for _, m in again.after(0, 10)] == [message(2), message(3)]
    assert again.checkpoints() == {"GPU-a": b"700", "GPU-b": b"1"}
    assert (again.events, again.size_bytes) == (2, message(2).size + message(3).size)


def test_numbers_grow_and_are_never_used_again(path: Path) -> None:
    spool = Spool(path)
    first = spool.put([message(1), message(2)])
    spool.discard(first)
    spool.close()
    second = Spool(path).put([message(3)])
    assert list(first) == [1, 2]
    assert list(second) == [3]


def test_checkpoints_may_move_without_an_event(path: Path) -> None:
    spool = Spool(path)
    assert list(spool.put([], {"GPU-a": b"1"})) == []
    assert spool.checkpoints() == {"GPU-a": b"1"}


def test_events_beyond_the_bound_are_refused_whole_with_their_checkpoints(path: Path) -> None:
    spool = Spool(path, max_bytes=2 * message(1).size)
    spool.put([message(1)], {"GPU-a": b"1"})
    with pytest.raises(SpoolFull, match=r"is full: 1 events"):
        spool.put([message(2), message(3)], {"GPU-a": b"3"})
    assert [m for _, m in spool.after(0, 10)] == [message(1)]
    assert spool.checkpoints() == {"GPU-a": b"1"}
    spool.discard([1])
    spool.put([message(2), message(3)], {"GPU-a": b"3"})
    assert spool.checkpoints() == {"GPU-a": b"3"}


def test_an_event_larger_than_the_bound_is_stored_when_no_other_waits(path: Path) -> None:
    spool = Spool(path, max_bytes=1)
    assert list(spool.put([message(1), message(2)], {"GPU-a": b"2"})) == [1, 2]
    with pytest.raises(SpoolFull):
        spool.put([message(3)])
    spool.discard([1, 2])
    assert list(spool.put([message(3)])) == [3]


def test_a_topic_that_the_brokers_refuse_leaves_the_others_their_share_also_in_the_next_run(path: Path) -> None:
    size = message(1, topic=topics.TOKENS).size
    spool = Spool(path, max_bytes=16 * size)
    with pytest.raises(SpoolFull, match=f"12 events, .* B for {topics.USAGE} of"):
        for _ in range(100):
            spool.put([message(1, topic=topics.USAGE)])
    spool.close()
    again = Spool(path, max_bytes=16 * size)
    for topic in (topics.POWER, topics.TOKENS):
        for _ in range(2):
            again.put([message(1, topic=topic)])
    assert [again.events_for(topic) for topic in topics.ALL[:3]] == [2, 2, 12]
    assert again.size_bytes <= 16 * size
    with pytest.raises(SpoolFull):
        again.put([message(3, topic=topics.POWER)])
    again.discard(number for number, _ in again.after(0, 100, topics.USAGE))
    again.put([message(n, topic=topics.POWER) for n in range(5)])


def test_a_full_disk_stores_nothing_and_loses_nothing(path: Path) -> None:
    spool = Spool(path)
    spool.put([message(1)], {"GPU-a": b"1"})
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    spool._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then answers as on a full disk.
    with pytest.raises(SpoolFull, match="Free space") as error:
        spool.put([message(n, 4096) for n in range(2, 9)], {"GPU-a": b"9"})
    assert error.value.reason == "disk_full"
    assert (spool.events, spool.size_bytes) == (1, message(1).size)
    assert spool.checkpoints() == {"GPU-a": b"1"}
    spool._db.execute("PRAGMA max_page_count = 100000")
    spool.put([message(2)], {"GPU-a": b"2"})
    assert [m for _, m in spool.after(0, 10)] == [message(1), message(2)]


def test_two_producers_do_not_share_a_spool(path: Path) -> None:
    held = Spool(path)
    with pytest.raises(Unavailable, match="Another producer has the spool"):
        Spool(path)
    held.close()
    Spool(path).close()


def test_a_damaged_spool_is_reported_and_left_unchanged(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="Move it away"):
        Spool(path)
    assert path.read_bytes().startswith(b"no database")


def test_a_spool_of_a_later_version_is_left_unchanged(path: Path) -> None:
    spool = Spool(path)
    spool._db.execute("PRAGMA user_version = 99")
    spool.close()
    with pytest.raises(Unavailable, match="later version"):
        Spool(path)


def test_only_its_user_may_read_it(path: Path) -> None:
    Spool(path)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


_KILLED = """
import sys
from pathlib import Path
from tests.producers.runtime.test_spool import message
from producers.runtime.spool import Spool
spool = Spool(Path(sys.argv[1]))
n = 0
while True:
    n += 1
    spool.put([message(2 * n), message(2 * n + 1)], {"at": str(n).encode()})
    print(n, flush=True)
"""


def test_a_killed_producer_leaves_events_and_checkpoints_of_the_same_moment(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    count = 0
    while count < 25:
        count = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    spool = Spool(path)
    at = int(spool.checkpoints()["at"])
    assert at >= count
    assert [m for _, m in spool.after(0, 10_000)] == [message(n) for n in range(2, 2 * at + 2)]
