"""The inbox: delivered messages wait until they are processed, in bounded number, and only for their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from contracts import topics
from streams.core.decoding import LogMessage
from streams.inbox import INBOX_BYTES, INBOX_STEPS, DeliveredBatch, Inbox

STEP = 2
SOON_MS, NEVER_MS = 0.0, 60_000.0


def batch(offset: int, size: int = 1) -> DeliveredBatch:
    return DeliveredBatch(topics.POWER, 0, [LogMessage(topics.POWER, offset, [], b"x" * size)], None)


def with_inbox(test: Callable[[Inbox], Awaitable[None]], *, opened: bool = True) -> None:
    async def run() -> None:
        inbox = Inbox(STEP)
        if opened:
            inbox.open()
        await test(inbox)

    asyncio.run(run())


async def waits(put: asyncio.Task[None]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not put.done()


def offsets(inbox: Inbox) -> list[int]:
    return [m.offset for b in inbox.take_all() for m in b.messages]


def test_a_full_step_is_ready_at_once_and_a_partial_one_after_a_while() -> None:
    async def test(inbox: Inbox) -> None:
        await inbox.put(batch(0))
        await inbox.wait_for_step(SOON_MS)
        assert inbox
        await inbox.put(batch(1))
        await inbox.wait_for_step(NEVER_MS)
        assert (offsets(inbox), bool(inbox)) == ([0, 1], False)

    with_inbox(test)


def test_messages_beyond_the_room_wait_until_earlier_ones_are_processed() -> None:
    async def test(inbox: Inbox) -> None:
        limit = STEP * INBOX_STEPS
        for offset in range(limit):
            await inbox.put(batch(offset))
        one_more = asyncio.create_task(inbox.put(batch(limit)))
        assert await waits(one_more)
        assert offsets(inbox) == list(range(limit))
        await one_more
        assert offsets(inbox) == [limit]

    with_inbox(test)


def test_room_includes_payload() -> None:
    async def test(inbox: Inbox) -> None:
        await inbox.put(batch(0, INBOX_BYTES))
        one_more = asyncio.create_task(inbox.put(batch(1)))
        assert await waits(one_more)
        inbox.take_all()
        await one_more

    with_inbox(test)


def test_messages_before_an_assignment_wait_for_it() -> None:
    async def test(inbox: Inbox) -> None:
        early = asyncio.create_task(inbox.put(batch(0)))
        assert await waits(early)
        inbox.open()
        await early
        assert offsets(inbox) == [0]

    with_inbox(test, opened=False)


def test_waiting_messages_are_dropped_with_their_partitions() -> None:
    async def test(inbox: Inbox) -> None:
        puts = [asyncio.create_task(inbox.put(batch(offset))) for offset in range(STEP * INBOX_STEPS + 3)]
        assert await waits(puts[-1])
        inbox.close()
        inbox.open()
        await asyncio.gather(*puts)
        assert not inbox
        await inbox.put(batch(7))
        assert offsets(inbox) == [7]

    with_inbox(test)
