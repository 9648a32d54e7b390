"""Which workloads and pods there were in a window: lists by pages, which change while they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from contracts.errors import Unavailable
from producers.runai import responses
from producers.runai.client import RunAiClient
from producers.runai.responses import RunAiPod, RunAiWorkload, epoch_ms, stamp
from producers.runai.windows import RunAiWindow

WORKLOADS, PODS, CLUSTERS = "/api/v1/workloads", "/api/v1/workloads/pods", "/api/v1/clusters"
MAX_LISTED = 50_000
"""Of one list; a larger one needs a `filter`."""
MAX_STEPS_BACK = 20
IDLE_PHASES = ("Pending", "Stopped", "Failed", "Completed")
"""Phases without GPUs, in which a workload may stay for months: listed only while the phase is new."""


class _Listed(Protocol):
    @property
    def id(self) -> str: ...


_Item = TypeVar("_Item", bound=_Listed)
ListPage = Callable[[int], tuple[Sequence[_Item], bool]]
"""The page at an offset, and whether more follows."""


def list_all(page: ListPage[_Item], named: str) -> dict[str, _Item]:
    """All items of a list in a stable order, by id, although items go while it is read.

    A page begins with the last item of the one before. If it does not, something before it has gone and the rest has
    moved up: then it is read from a page earlier. Raises Unavailable where that has no end.
    """
    seen: dict[str, _Item] = {}
    offset, size, steps_back = 0, 2, 0
    while True:
        items, more = page(offset)
        size = max(size, len(items))
        if offset and not (items and items[0].id in seen):
            steps_back += 1
            if steps_back > MAX_STEPS_BACK:
                raise Unavailable(f"The list of {named} changes faster than it is read", "Use a larger `page_size`.")
            offset = max(0, offset - size)
            continue
        seen.update((item.id, item) for item in items)
        if len(seen) > MAX_LISTED:
            mend = "Use a `filter`, and a producer for each part."
            raise Unavailable(f"Run:ai lists more than {MAX_LISTED:,} {named}", mend, lasting=True)
        if not more or len(items) < 2:
            return seen
        offset += len(items) - 1


class RunAiListing:
    """Asks for lists. `own` are filters of the user's, `name==x` each."""

    def __init__(self, api: RunAiClient, page_size: int, own: Sequence[str]) -> None:
        self._api, self._page_size, self._own = api, page_size, tuple(own)

    def clusters(self) -> dict[str, str]:
        """Names by id."""
        body = self._api.get(CLUSTERS).body
        return {c.uuid: c.name for c in responses.clusters(body, CLUSTERS)}

    def workloads(self, window: RunAiWindow) -> dict[str, RunAiWorkload]:
        """Workloads that may have had pods in a window.

        Three lists, in this order: in a phase with pods; in another, but only since the window began; deleted since.
        Who leaves one while it is read is in the next.
        """
        found: dict[str, RunAiWorkload] = {}
        for deleted, filters in (
            (False, tuple(f"phase!={p}" for p in IDLE_PHASES)),
            (False, (f"phaseUpdatedAt>={stamp(window.t0_ms)}",)),
            (True, (f"deletedAt>={stamp(window.t0_ms)}",)),
        ):
            found.update(list_all(self._page_of_workloads(deleted, (*filters, *self._own)), "workloads"))
        return {i: w for i, w in sorted(found.items()) if _lived(window, w.created_at, w.completed_at, w.deleted_at)}

    def pods(self, window: RunAiWindow) -> dict[str, RunAiPod]:
        """Pods that may have run in a window: not completed, completed since it began, deleted since."""
        found: dict[str, RunAiPod] = {}
        for more in (
            {"completed": "false"},
            {"completed": "true", "filterBy": f"completedAt>={stamp(window.t0_ms)}"},
            {"deleted": "true", "filterBy": f"deletedAt>={stamp(window.t0_ms)}"},
        ):
            found.update(list_all(self._page_of_pods(more), "pods"))
        return {i: p for i, p in sorted(found.items()) if _lived(window, p.created_at, p.completed_at, p.deleted_at)}

    def count(self) -> int:
        """How many workloads are in a phase with pods."""
        filters = (*(f"phase!={p}" for p in IDLE_PHASES), *self._own)
        return len(list_all(self._page_of_workloads(False, filters), "workloads"))

    def _params(self, offset: int) -> dict[str, str]:
        # By creation, oldest first: what is new comes at the end, where nothing moves by it.
        return {"limit": str(self._page_size), "offset": str(offset), "sortBy": "createdAt", "sortOrder": "asc"}

    def _page_of_workloads(self, deleted: bool, filters: Sequence[str]) -> ListPage[RunAiWorkload]:
        def page(offset: int) -> tuple[Sequence[RunAiWorkload], bool]:
            params = {**self._params(offset), "filterBy": ",".join(filters)} | ({"deleted": "true"} if deleted else {})
            answer = responses.read(self._whole(WORKLOADS, params), responses.RunAiWorkloads, WORKLOADS)
            items = answer.workloads or []
            return items, self._more(offset, len(items), answer.next)

        return page

    def _page_of_pods(self, more: dict[str, str]) -> ListPage[RunAiPod]:
        def page(offset: int) -> tuple[Sequence[RunAiPod], bool]:
            params = {**self._params(offset), "verbosity": "full", **more}
            answer = responses.read(self._whole(PODS, params), responses.RunAiPods, PODS)
            items = answer.pods or []
            return items, self._more(offset, len(items), answer.next)

        return page

    def _whole(self, path: str, params: dict[str, str]) -> bytes:
        answer = self._api.get(path, params)
        if answer.partial:
            raise Unavailable(
                f"{path} says that its list lacks something (207)", "It is tried again.", reason="partial"
            )
        return answer.body

    def _more(self, offset: int, items: int, following: int | None) -> bool:
        """By its word; where it says nothing, by a page that is full."""
        return following > offset if following else items >= self._page_size


def _lived(window: RunAiWindow, *told: str | None) -> bool:
    """Whether something was there in a window, by its times of creation, completion and deletion."""
    created, *ends = (epoch_ms(text) for text in told)
    return (created or 0) < window.t1_ms and all(end is None or end > window.t0_ms for end in ends)
