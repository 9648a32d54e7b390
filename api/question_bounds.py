"""Bounds on the questions of the API: how many a caller asks at once, and how many run at once.

Questions in SQL have bounds of their own beside, because each may take a process with gigabytes.

A question that waits for its turn takes no thread and no reader of the warehouse. Two of a caller run at once, so that
one caller's slow questions leave room for the others'. The engine bounds the time and the memory of each
(`question_timeout_s`, `question_memory_mb`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from api.auth import _Authenticated
from contracts.callers import Caller

CALLER_QUESTIONS = 24
"""Questions of one caller at once; the page asks 8."""
RUNNING, CALLER_RUNNING = 4, 2
"""Questions that run at once, as many as the warehouse has readers; of one caller."""
SQL_RUNNING = 2
"""Questions in SQL that run at once, one of a caller: its next one gets 429."""
MAX_QUESTIONS = 256
"""Questions of all callers at once."""
RETRY_S = "1"

Answer = TypeVar("Answer")


class QuestionBounds:
    """Questions under way, by caller. Its event loop alone uses it.

    `running` of them run at once, `caller_running` of one caller; `under_way` of one caller are running or waiting.
    """

    def __init__(
        self, running: int = RUNNING, caller_running: int = CALLER_RUNNING, under_way: int = CALLER_QUESTIONS
    ) -> None:
        self._running = asyncio.Semaphore(running)
        self._caller_running, self._under_way = caller_running, under_way
        self._callers: dict[str, asyncio.Semaphore] = {}
        self._questions = Counter[str]()

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait for the turn of a caller's question. Raises HTTPException: 429 for too many, 503 where all have them."""
        if self._questions[caller] >= self._under_way:
            raise HTTPException(
                429, f"{self._under_way} questions of this caller are under way; ask again.", {"Retry-After": RETRY_S}
            )
        if self._questions.total() >= MAX_QUESTIONS:
            raise HTTPException(503, f"{MAX_QUESTIONS} questions are under way; ask again.", {"Retry-After": RETRY_S})
        async with self.download(caller) as in_turn, in_turn():
            yield

    @asynccontextmanager
    async def download(self, caller: str) -> AsyncIterator[Callable[[], AbstractAsyncContextManager[None]]]:
        """Count an answer that is being sent as one of the caller's questions. Yields what waits for a turn of it."""
        self._questions[caller] += 1
        own = self._callers.setdefault(caller, asyncio.Semaphore(self._caller_running))

        @asynccontextmanager
        async def in_turn() -> AsyncIterator[None]:
            async with own, self._running:
                yield

        try:
            yield in_turn
        finally:
            self._questions[caller] -= 1
            if not self._questions[caller]:
                del self._questions[caller], self._callers[caller]


class SharedQuestion(Generic[Answer]):
    """A question that all who ask it while it runs ask together, in one thread."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._running: asyncio.Task[Answer] | None = None

    async def answer(self) -> Answer:
        """Return the answer. Raises what the question raises."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(run_in_threadpool(self._ask))
        return await asyncio.shield(self._running)


def sql_bounds() -> QuestionBounds:
    """Return the bounds of questions in SQL: one of a caller at a time, and two in all; others wait."""
    return QuestionBounds(SQL_RUNNING, 1, 1)


def _asker(request: Request, caller: Caller) -> str:
    address = request.client.host if request.client else ""
    # A credential of all tenants may be many people's, and the page needs none on loopback.
    return f"address {address} {caller.name}" if caller.tenants is None else f"tenants {sorted(caller.tenants)}"


async def _turn(request: Request, caller: _Authenticated) -> AsyncIterator[None]:
    bounds: QuestionBounds = request.app.state.questions
    request.state.asker = _asker(request, caller)
    async with bounds.turn(request.state.asker):
        yield


async def _sql_turn(request: Request, caller: _Authenticated) -> AsyncIterator[None]:
    bounds: QuestionBounds = request.app.state.sql_questions
    async with bounds.turn(_asker(request, caller)):
        yield


IN_TURN = Depends(_turn, scope="function")
"""Dependency of a route: it is asked in its caller's turn, which ends before the answer is sent."""
IN_SQL_TURN = Depends(_sql_turn, scope="function")
"""Dependency of a route that takes SQL, beside that of all."""
