"""Memories of a listener's senders: identities of their last calls, and totals of their counters.

Each sender has a memory of its own. What one sends is no copy of another's call, and makes room for nothing of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from contracts.callers import Caller, Scope
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.series_totals import SeriesTotals

MAX_BYTES = 128 * 2**20
"""Bytes of all memories together, estimated. Beyond, the sender with most of them forgets its oldest calls and series.

So of 256 senders each has half a MiB that no other sender takes: 3,000 calls, for example.
"""
MAX_SENDERS = 256
"""Senders that are remembered. Beyond, the one that sent nothing new for the longest time makes room."""
CHECKPOINT_PREFIX = "sender/"
"""Prefix of a checkpoint of one sender: the number of its place follows, then the checkpoint's own name."""
_NAME = "name"


class SenderMemory(NamedTuple):
    """Memory of one sender."""

    window: DeduplicationWindow
    totals: SeriesTotals

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, estimated."""
        return self.window.size_bytes + self.totals.size_bytes

    def shrink(self) -> None:
        """Forget an eighth of it, the oldest."""
        self.window.shrink()
        self.totals.shrink()


class SenderMemories:
    """The memories by sender. That of "" is for a listener without credentials, and has what earlier versions stored.

    `now_ns` is a Unix time. `on_forgotten` is called with the sender that forgets what is oldest, because all of them
    have more than `max_bytes`. Its queue's thread changes them; other threads ask for one.
    """

    def __init__(
        self, common: SenderMemory | None = None, *, max_senders: int = MAX_SENDERS,
        max_bytes: int = MAX_BYTES, now_ns: Callable[[], int] = lambda: 0,
        on_forgotten: Callable[[str], object] = lambda sender: None,
    ) -> None:  # fmt: skip
        self._max_bytes, self._on_forgotten = max_bytes, on_forgotten
        self._common = common or SenderMemory(DeduplicationWindow(), SeriesTotals(now_ns()))
        self._max_senders, self._now_ns = max_senders, now_ns
        self._places: OrderedDict[str, tuple[int, SenderMemory]] = OrderedDict()
        """By sender, the one that sent nothing new for the longest time first."""
        self._erased: dict[str, bytes] = {}
        """Checkpoints to store because their place has a new sender."""

    def load(self, checkpoints: Mapping[str, bytes]) -> None:
        """Restore what earlier runs stored as checkpoints; other checkpoints are ignored."""
        for store in self._common:
            store.load(checkpoints)
        by_place: dict[int, dict[str, bytes]] = {}
        for name, value in checkpoints.items():
            if name.startswith(CHECKPOINT_PREFIX) and value:
                _, number, own = name.split("/", 2)
                by_place.setdefault(int(number), {})[own] = value
        for place, own_checkpoints in sorted(by_place.items()):
            if _NAME in own_checkpoints and place < self._max_senders:
                memory = self._new_memory()
                for store in memory:
                    store.load(own_checkpoints)
                self._places[own_checkpoints[_NAME].decode()] = place, memory
        self.make_room()

    @property
    def size_bytes(self) -> int:
        """Bytes of all memories, estimated."""
        return self._common.size_bytes + sum(memory.size_bytes for _, memory in list(self._places.values()))

    def make_room(self) -> None:
        """Let the sender with most in memory forget what is oldest, until all have no more than the bound together.

        The largest one has more than an equal share, so no sender forgets anything within its own.
        """
        while self.size_bytes > self._max_bytes:
            named = {"": self._common} | {sender: memory for sender, (_, memory) in self._places.items()}
            sender = max(named, key=lambda name: named[name].size_bytes)
            before = named[sender].size_bytes
            named[sender].shrink()
            self._on_forgotten(sender)
            if named[sender].size_bytes == before:
                return  # One part each: less is not forgotten.

    def of(self, sender: str) -> SenderMemory:
        """Return the memory of a sender: an empty one, which is not kept yet, where nothing is remembered of it."""
        if not sender:
            return self._common
        kept = self._places.get(sender)
        return kept[1] if kept else self._new_memory()

    def keep(self, sender: str, memory: SenderMemory) -> bool:
        """Keep a memory that `of` returned, because it is to be changed.

        Return False where another one of this sender was kept since.
        """
        if not sender:
            return memory is self._common
        if sender not in self._places:
            place = len(self._places)
            if place >= self._max_senders:
                _, (place, old) = self._places.popitem(last=False)
                for store in old:
                    self._erased |= dict.fromkeys(self._named(place, store.names()), b"")
            self._places[sender] = place, memory
            self._erased[f"{CHECKPOINT_PREFIX}{place}/{_NAME}"] = sender.encode()
        self._places.move_to_end(sender)
        return self._places[sender][1] is memory

    def changed_parts(self) -> dict[str, bytes]:
        """Return what changed since `mark_stored`, as checkpoints by name; `load` restores it."""
        changed = dict(self._erased)
        for store in self._common:
            changed |= store.changed_parts()
        for place, memory in self._places.values():
            for store in memory:
                parts = store.changed_parts()
                changed |= dict(zip(self._named(place, parts), parts.values(), strict=True))
        return changed

    def mark_stored(self) -> None:
        """Note that the result of `changed_parts` is on disk."""
        self._erased.clear()
        for memory in (self._common, *(memory for _, memory in self._places.values())):
            for store in memory:
                store.mark_stored()

    def _new_memory(self) -> SenderMemory:
        """Return an empty memory. Where senders were forgotten, this may be one of them: its counters only begin."""
        common = self._common
        since_ns = common.totals.since_ns if len(self._places) < self._max_senders else self._now_ns()
        return SenderMemory(DeduplicationWindow(older=common.window), SeriesTotals(since_ns, older=common.totals))

    @staticmethod
    def _named(place: int, names: Mapping[str, bytes] | list[str]) -> list[str]:
        return [f"{CHECKPOINT_PREFIX}{place}/{name}" for name in names]


def memory_name(caller: Caller) -> str:
    """Return the name of a caller's memory. Credentials of the same tenants that send no requests share one."""
    if caller.tenants is None or caller.may(Scope.SEND_REQUESTS):
        return caller.name
    return f"own:{','.join(sorted(caller.tenants))}"
