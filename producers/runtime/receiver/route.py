"""What a route of the listener is: an address, the bodies that it takes, and a pure function that reads them.

Everything else is the same for all of them: who may send, bounds, numbering, delivery, errors. A new route is an
`Intake` in the list of `producers.receivers.http_plugin`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from producers.runtime.poll_loop import Made
from producers.runtime.receiver.auth import Caller


class Sent(NamedTuple):
    """A request, read whole and unpacked. Names of headers are in small letters; `content_type` has no parameters."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    caller: Caller
    now_ms: int
    """When it came, in UTC epoch ms: the time of what says none."""


class Parsed(NamedTuple):
    """What a request becomes. `made`: batches, all of which must be acknowledged before it is answered; `refused`: of
    what was left out, why (they are counted and logged: repeat no secret and no prompt there); `skipped`: rows that do
    not count, by why (a label; with `recent.DOUBLE` it is answered when what came before is acknowledged); `names`:
    what of it is known by from now on, if it is kept (`producers.runtime.deduplication`)."""

    made: Sequence[Made]
    refused: Sequence[str] = ()
    skipped: Mapping[str, int] = MappingProxyType({})
    names: Sequence[str] = ()


class Reply(NamedTuple):
    """The answer to a request that was accepted."""

    status: int = 202
    body: bytes = b""
    content_type: str = ""


def accepted(sent: Sent, parsed: Parsed) -> Reply:
    """202, without a body."""
    return Reply()


@dataclass(frozen=True, slots=True)
class Intake:
    """One route.

    `kind` begins the source of its events on the log (`KIND-tokens://cluster/node/workload`, a URI scheme: small
    letters). `bodies` are the content types that it takes, and the JSON schema of each ({} where it is not JSON).
    `parse` raises BadInput or Rejected for what cannot be read, AccessDenied for what the caller may not say. Then
    nothing of the request is accepted. It runs in a thread, and must not keep anything.
    """

    path: str
    kind: str
    bodies: Mapping[str, Mapping[str, Any]]
    parse: Callable[[Sent], Parsed]
    reply: Callable[[Sent, Parsed], Reply] = accepted
    status: int = 202
    """Of what was accepted, as /openapi.json describes it."""
