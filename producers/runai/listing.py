"""The workloads and pods of a window: paged lists that change while they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from contracts.errors import Unavailable
from producers.runai import responses
from producers.runai.client import RunAiClient
from producers.runai.responses import MalformedItem, RunAiPod, RunAiWorkload, epoch_ms, stamp
from producers.runai.windows import RunAiWindow

WORKLOADS, PODS, CLUSTERS = "/api/v1/workloads", "/api/v1/workloads/pods", "/api/v1/clusters"
MAX_LISTED = 50_000
"""Items of one list. A longer one needs a `filter`."""
MAX_STEPS_BACK = 20
IDLE_PHASES = ("Pending", "Stopped", "Failed", "Completed")
"""Phases without GPUs, in which a workload may stay for months. They are listed only while the phase is new."""


class _Item(Protocol):
    @property
    def id(self) -> str: ...


_Kind = TypeVar("_Kind", RunAiWorkload, RunAiPod)
_ItemT = TypeVar("_ItemT", bound=_Item)
ListPage = Callable[[int], tuple[Sequence[_ItemT], bool]]
"""Returns the page at an offset, and whether another one follows."""


def list_all(page: ListPage[_ItemT], name: str) -> dict[str, _ItemT]:
    """Return all items of a list in a stable order, by id, although items disappear while it is read.

    A page begins with the last item of the page before. If it does not, an item before it has disappeared and the
    others have moved up: then reading resumes a page earlier. Raises Unavailable if that has no end.
    """
    items_by_id: dict[str, _ItemT] = {}
    offset, size, steps_back = 0, 2, 0
    while True:
        items, more = page(offset)
        size = max(size, len(items))
        if offset and not (items and items[0].id in items_by_id):
            steps_back += 1
            if steps_back > MAX_STEPS_BACK:
                raise Unavailable(f"The list of {name} changes faster than it is read", "Use a larger `page_size`.")
            offset = max(0, offset - size)
            continue
        items_by_id.update((item.id, item) for item in items)
        if len(items_by_id) > MAX_LISTED:
            hint = "Use a `filter`, and a producer for each part."
            raise Unavailable(f"Run:ai lists more than {MAX_LISTED:,} {name}", hint, lasting=True)
        if not more or len(items) < 2:
            return items_by_id
        offset += len(items) - 1


class RunAiListing:
    """Reads lists. `filters` are those of the configuration, such as `name==x`. `refused` are errors of malformed
    items.
    """

    def __init__(self, api: RunAiClient, page_size: int, filters: Sequence[str]) -> None:
        self._api, self._page_size, self._filters = api, page_size, tuple(filters)
        self.refused: list[str] = []

    def clusters(self) -> dict[str, str]:
        """Return the names of clusters by id."""
        body = self._api.get(CLUSTERS).body
        return {c.uuid: c.name for c in responses.clusters(body, CLUSTERS)}

    def workloads(self, window: RunAiWindow) -> dict[str, RunAiWorkload]:
        """Return the workloads that may have had pods in a window, by id.

        Three lists, in this order: workloads in a phase with pods; in another phase, but only since the window began;
        deleted since then. A workload that leaves a list while it is read is in the next one.
        """
        workloads: dict[str, RunAiWorkload | MalformedItem] = {}
        for deleted, filters in (
            (False, tuple(f"phase!={phase}" for phase in IDLE_PHASES)),
            (False, (f"phaseUpdatedAt>={stamp(window.t0_ms)}",)),
            (True, (f"deletedAt>={stamp(window.t0_ms)}",)),
        ):
            workloads |= list_all(self._page_of_workloads(deleted, (*filters, *self._filters)), "workloads")
        return {
            workload.id: workload for workload in self._sorted(workloads)
            if _existed(window, workload.created_at, workload.completed_at, workload.deleted_at)
        }  # fmt: skip

    def pods(self, window: RunAiWindow) -> dict[str, RunAiPod]:
        """Return the pods that may have run in a window, by id: not completed, completed or deleted since it began."""
        pods: dict[str, RunAiPod | MalformedItem] = {}
        for params in (
            {"completed": "false"},
            {"completed": "true", "filterBy": f"completedAt>={stamp(window.t0_ms)}"},
            {"deleted": "true", "filterBy": f"deletedAt>={stamp(window.t0_ms)}"},
        ):
            pods |= list_all(self._page_of_pods(params), "pods")
        return {
            pod.id: pod for pod in self._sorted(pods)
            if _existed(window, pod.created_at, pod.completed_at, pod.deleted_at)
        }  # fmt: skip

    def count(self) -> int:
        """Return how many workloads are in a phase with pods."""
        filters = (*(f"phase!={phase}" for phase in IDLE_PHASES), *self._filters)
        return len(list_all(self._page_of_workloads(False, filters), "workloads"))

    def _sorted(self, items: Mapping[str, _Kind | MalformedItem]) -> list[_Kind]:
        """Return the items in order of their ids, and add the errors of malformed ones to `refused`."""
        return responses.well_formed((item for _, item in sorted(items.items())), self.refused)

    def _params(self, offset: int) -> dict[str, str]:
        # By creation, oldest first: new items are added at the end, where nothing moves because of them.
        return {"limit": str(self._page_size), "offset": str(offset), "sortBy": "createdAt", "sortOrder": "asc"}

    def _page_of_workloads(
        self, deleted: bool, filters: Sequence[str]
    ) -> ListPage[RunAiWorkload | MalformedItem]:  # fmt: skip
        def page(offset: int) -> tuple[Sequence[RunAiWorkload | MalformedItem], bool]:
            params = {**self._params(offset), "filterBy": ",".join(filters)} | ({"deleted": "true"} if deleted else {})
            answer = responses.decode(self._complete(WORKLOADS, params), responses.RunAiWorkloads, WORKLOADS)
            items = responses.decode_items(answer.workloads, RunAiWorkload, WORKLOADS)
            return items, self._more(offset, len(items), answer.next)

        return page

    def _page_of_pods(self, filters: dict[str, str]) -> ListPage[RunAiPod | MalformedItem]:
        def page(offset: int) -> tuple[Sequence[RunAiPod | MalformedItem], bool]:
            params = {**self._params(offset), "verbosity": "full", **filters}
            answer = responses.decode(self._complete(PODS, params), responses.RunAiPods, PODS)
            items = responses.decode_items(answer.pods, RunAiPod, PODS)
            return items, self._more(offset, len(items), answer.next)

        return page

    def _complete(self, path: str, params: dict[str, str]) -> bytes:
        """Return the body of a complete list. Raises Unavailable if Run:ai says that a part is missing."""
        answer = self._api.get(path, params)
        if answer.partial:
            raise Unavailable(f"{path} says that its list is incomplete (207)", "It is tried again.", reason="partial")
        return answer.body

    def _more(self, offset: int, items: int, following: int | None) -> bool:
        """Return whether Run:ai names a next page, or, where it names none, whether this one is full."""
        return following > offset if following else items >= self._page_size


def _existed(window: RunAiWindow, *times: str | None) -> bool:
    """Return whether an object existed in a window, by its times of creation, completion and deletion."""
    created, *ends = (epoch_ms(text) for text in times)
    return (created or 0) < window.t1_ms and all(end is None or end > window.t0_ms for end in ends)
