"""The fence: one writer per partition.

Claims are unique, a fenced write is refused whole, and a write that has already passed the fence is awaited.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.errors import Fenced, Unavailable
from contracts.rows import SCHEMAS
from tests.support.ledger_rows import HOUR, WINDOW_MS, row, rows
from tests.support.waiting import HANG_S, wait_until
from warehouse import client as client_module
from warehouse.client import Warehouse
from warehouse.sink import claims as claims_module
from warehouse.sink.claims import claim
from warehouse.sink.fence import Fence, insert_sql
from warehouse.sink.sink import Sink


@pytest.fixture
def sink(warehouse: Warehouse) -> Sink:
    return Sink(warehouse)


def energies(warehouse: Warehouse) -> list[int]:
    return [r["uj"] for r in warehouse.query("SELECT active_uj AS uj FROM ledger FINAL ORDER BY window_start")]


def test_the_epoch_of_a_claim_is_above_every_claim_and_checkpoint_of_any_log(warehouse: Warehouse, sink: Sink) -> None:
    assert sink.claim("log", [0], "a") == 1
    assert sink.claim("log", [0], "b") == 2
    assert sink.claim("other", [5], "c") == 3
    sink.write("marks", row("marks", log_id="old", epoch=70))
    assert sink.claim("log", [1, 0], "d") == 71
    assert warehouse.ask("sink/claim_top")[0]["epoch"] == 71


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_holder_of_the_greatest_claim_writes(warehouse: Warehouse, sink: Sink, name: str) -> None:
    epoch = sink.claim("log's \\ name", [3], "a")
    table = row(name)
    sink.write(name, table, Fence("log's \\ name", (3,), epoch))
    times = ", ".join(f"toUnixTimestamp64Milli({c}) AS {c}" if k == "ms" else c for c, k in SCHEMAS[name].items())
    assert warehouse.query(f"SELECT {times} FROM {name} FINAL") == [{c: table[c][0] for c in SCHEMAS[name]}]


def test_an_earlier_owner_is_refused_and_stores_nothing(warehouse: Warehouse, sink: Sink) -> None:
    old = Fence("log", (0,), sink.claim("log", [0, 1], "old"))
    sink.claim("log", [0], "new")
    for name in SCHEMAS:
        with pytest.raises(Fenced, match="Another worker has claimed partition 0 of log") as caught:
            sink.write(name, row(name), old)
        assert (caught.value.log_partitions, caught.value.epoch) == ((0,), old.epoch)
        assert warehouse.query(f"SELECT count() AS n FROM {name}") == [{"n": 0}]
    sink.write("ledger", row("ledger", log_partition=1), Fence("log", (1,), old.epoch))
    assert energies(warehouse) == [0]


def test_partitions_and_logs_are_fenced_separately(warehouse: Warehouse, sink: Sink) -> None:
    mine = Fence("log", (0,), sink.claim("log", [0], "a"))
    sink.claim("log", [1], "b")
    sink.claim("log2", [0], "c")
    sink.write("ledger", row("ledger", active_uj=5), mine)
    assert energies(warehouse) == [5]


@pytest.mark.parametrize("epoch", [0, 6])
def test_a_missing_claim_gives_no_right_to_write(warehouse: Warehouse, sink: Sink, epoch: int) -> None:
    """A worker may outlive a restore of the warehouse from a backup, which lacks its claim."""
    with pytest.raises(Fenced):
        sink.write("ledger", row("ledger"), Fence("log", (0,), 5))
    for _ in range(epoch):
        sink.claim("log", [0], f"{epoch}")
    with pytest.raises(Fenced):
        sink.write("ledger", row("ledger"), Fence("log", (0,), 5))


def test_a_large_table_is_fenced_batch_by_batch(
    warehouse: Warehouse, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "INSERT_ROWS", 2)
    mine = Fence("log", (0,), sink.claim("log", [0], "a"))
    sink.write(
        "ledger", rows("ledger", *({"window_start": HOUR + i * WINDOW_MS, "active_uj": i} for i in range(5))), mine
    )
    assert energies(warehouse) == [0, 1, 2, 3, 4]


def test_concurrent_claims_have_distinct_epochs(warehouse: Warehouse) -> None:
    def take(n: int) -> list[int]:
        return [claim(warehouse, "log", [0, 1], f"owner {n}.{k}") for k in range(8)]

    with ThreadPoolExecutor(6) as pool:
        epochs = [epoch for some in pool.map(take, range(6)) for epoch in some]
    assert len(set(epochs)) == len(epochs) == 48


def test_at_most_one_of_two_claims_of_one_epoch_continues(warehouse: Warehouse, sink: Sink) -> None:
    """Both read the greatest epoch before either claims."""
    ask = warehouse.ask

    def late(name: str, **params: object) -> object:
        if name == "sink/claim_others" and not others:
            others.append(1)
            put(warehouse, epoch=1, owner="another")
        return ask(name, **params)  # type: ignore[arg-type]

    others: list[int] = []
    warehouse.ask = late  # type: ignore[method-assign, assignment]
    assert sink.claim("log", [0], "a") > 1


def put(warehouse: Warehouse, *, epoch: int, owner: str) -> None:
    warehouse.insert_rows("claims", [{"log_id": "log", "log_partition": 0, "epoch": epoch, "owner": owner}])


def test_a_claim_that_is_overtaken_repeatedly_gives_up_for_now(warehouse: Warehouse, sink: Sink) -> None:
    ask = warehouse.ask

    def late(name: str, **params: object) -> object:
        if name == "sink/claim_others":
            put(warehouse, epoch=ask("sink/claim_top")[0]["epoch"] + 1, owner="another")
        return ask(name, **params)  # type: ignore[arg-type]

    warehouse.ask = late  # type: ignore[method-assign, assignment]
    with pytest.raises(Unavailable, match="one consumer group") as caught:
        sink.claim("log", [0], "a")
    assert caught.value.reason == "claims"


class Slow:
    """A fenced insert that has read the claims and takes `row_s` for each row, on a handle of its own.

    With 4 rows it ends soon. With more, which would take too long, it is killed at the end of the block.
    """

    def __init__(self, warehouse: Warehouse, row_s: float, rows: int = 4) -> None:
        self.error: BaseException | None = None
        self._warehouse, self._row_s, self._rows = warehouse, row_s, rows

    def _insert(self) -> None:
        fence = Fence("log", (0,), 1)
        source = (
            f"(SELECT addMilliseconds(toDateTime64('2024-01-01 00:00:00', 3, 'UTC'), number * {WINDOW_MS}) "
            f"AS window_start, 'slow' AS cluster, 1 AS version FROM numbers({self._rows}) "
            f"WHERE NOT sleepEachRow({self._row_s}))"
        )
        sql = insert_sql("ledger", ["window_start", "cluster", "version"], source, fence)
        try:
            with self._warehouse.reader() as client:
                client.raw_query(sql + " SETTINGS max_block_size = 1", parameters=fence.parameters)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Slow:
        while True:
            self._thread = threading.Thread(target=self._insert)
            self._thread.start()
            wait_until(lambda: self._is_running() or not self._thread.is_alive())
            if self._thread.is_alive():
                return self
            assert self.error is None
            self._warehouse.command("TRUNCATE TABLE ledger")  # It ended before it was seen: once more, slower.
            self._row_s = min(4 * self._row_s, 3.0)

    def __exit__(self, *_: object) -> None:
        if self._rows > 4:
            self._warehouse.command("KILL QUERY WHERE query LIKE '%wattlog fence %' AND query LIKE 'INSERT%' ASYNC")
        self._thread.join(HANG_S)

    def _is_running(self) -> bool:
        return bool(self._warehouse.ask("sink/fenced_writes", mark="wattlog fence "))


def test_a_claim_waits_for_a_write_that_has_passed_the_fence(warehouse: Warehouse, sink: Sink) -> None:
    """Otherwise it would be stored after its successor had read the stored rows."""
    assert sink.claim("log", [0], "old") == 1
    with Slow(warehouse, 0.05) as slow:
        assert sink.claim("log", [0], "new") == 2
        assert warehouse.query("SELECT count() AS n FROM ledger") == [{"n": 4}]
        assert warehouse.ask("sink/fenced_writes", mark="wattlog fence ") == []
    assert slow.error is None


def test_a_claim_does_not_wait_for_writes_of_other_partitions(warehouse: Warehouse, sink: Sink) -> None:
    assert sink.claim("log", [0], "old") == 1
    with Slow(warehouse, 3.0, rows=100):
        sink.claim("log", [1], "new")
        sink.claim("log2", [0], "new")
        assert warehouse.ask("sink/fenced_writes", mark="wattlog fence ") != []


def test_a_write_that_does_not_end_is_killed(warehouse: Warehouse, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "KILL_AFTER_S", 0.1)
    assert sink.claim("log", [0], "old") == 1
    with Slow(warehouse, 3.0, rows=100) as slow:
        sink.claim("log", [0], "new")
        assert warehouse.ask("sink/fenced_writes", mark="wattlog fence ") == []
    assert slow.error is not None
    assert warehouse.query("SELECT count() < 100 AS killed FROM ledger") == [{"killed": 1}]


def test_a_write_that_cannot_be_killed_keeps_the_claim_waiting(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    ask = warehouse.ask

    def stuck(name: str, **params: object) -> object:
        if name == "sink/fenced_writes":
            return [{"query_id": "q7", "query": f"INSERT ... '{params['mark']}0:0.'"}]
        return ask(name, **params)  # type: ignore[arg-type]

    warehouse.ask = stuck  # type: ignore[method-assign, assignment]
    with pytest.raises(Unavailable, match=r"do not end: queries q7") as caught:
        claim(warehouse, "log", [0], "a", sleep=waited.append)
    assert caught.value.reason == "draining"
    assert sum(waited) == pytest.approx(claims_module.MAX_DRAIN_S, abs=claims_module.MAX_POLL_S)
