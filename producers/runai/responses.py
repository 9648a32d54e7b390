"""Answers of Run:ai's API, as far as they are read. Other fields are ignored.

Shapes are those of its reference (OpenAPI of 2.24 and later): times are RFC 3339 or have a space instead of the T,
values of measurements are texts, and nearly everything may be null. Fields that are read must be there: an answer
without its list is malformed, not an empty list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, TypeVar

import msgspec

from contracts.errors import Unavailable
from producers.common.json_text import decode_or_repair
from producers.runtime.refusals import ItemRefusal, refusal, shorten

_Answer = TypeVar("_Answer")
MALFORMED = "answer"
"""Reason of an answer that is none of Run:ai's."""


class MalformedItem(NamedTuple):
    """An item of a list that cannot be decoded, and why. `id` is a digest of its text, as the place of a page."""

    id: str
    refusal: ItemRefusal


class RunAiToken(msgspec.Struct, rename="camel"):
    access_token: str
    expires_in: float | None = None


class RunAiCluster(msgspec.Struct):
    uuid: str
    name: str


class RunAiClusters(msgspec.Struct):
    clusters: list[RunAiCluster] | None


class RunAiWorkload(msgspec.Struct, rename="camel"):
    id: str
    name: str
    cluster_id: str = ""
    type: str | None = None
    namespace: str | None = None
    project_name: str | None = None
    department_name: str | None = None
    phase: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    deleted_at: str | None = None
    phase_updated_at: str | None = None


class RunAiWorkloads(msgspec.Struct):
    workloads: list[msgspec.Raw] | None
    next: int | None = None


class RunAiPod(msgspec.Struct, rename="camel"):
    id: str
    workload_id: str
    name: str
    cluster_id: str = ""
    workload_name: str | None = None
    project_name: str | None = None
    node_name: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    deleted_at: str | None = None


class RunAiPods(msgspec.Struct):
    pods: list[msgspec.Raw] | None
    next: int | None = None


class RunAiSample(msgspec.Struct):
    value: str | float | int | None
    timestamp: str | None = None


class RunAiMeasurement(msgspec.Struct):
    type: str
    labels: dict[str, str | None] | None = None
    values: list[RunAiSample] | None = None


class RunAiMeasurements(msgspec.Struct):
    measurements: list[msgspec.Raw] | None


def decode(body: bytes, kind: type[_Answer], place: str) -> _Answer:
    """Decode a body. Raises Unavailable if it is something else: a proxy's page, or an answer of another version."""
    try:
        return decode_or_repair(body, msgspec.json.Decoder(kind).decode)
    except Exception as error:
        problem = f"{place} gives what cannot be read: {shorten(error)}"
        raise Unavailable(problem, "Is that the address of Run:ai?", reason=MALFORMED) from None


def decode_items(
    raw_items: Sequence[msgspec.Raw] | None, kind: type[_Answer], place: str
) -> list[_Answer | MalformedItem]:
    """Decode the items of a list, each on its own, so that a malformed one does not spoil the others."""
    return [_decode_item(raw, kind, f"{place}, item {number}") for number, raw in enumerate(raw_items or ())]


def well_formed(items: Iterable[_Answer | MalformedItem], refused: list[str]) -> list[_Answer]:
    """Return the items that are not malformed, and add the errors of the others to `refused`.

    Raises Unavailable if all are malformed: then the answer is of another version.
    """
    kept, errors = list[_Answer](), list[str]()
    for item in items:
        if isinstance(item, MalformedItem):
            errors.append(item.refusal)
        else:
            kept.append(item)
    if errors and not kept:
        raise Unavailable(errors[0], "Is that the address of Run:ai?", reason=MALFORMED)
    refused += errors
    return kept


def _decode_item(raw: msgspec.Raw, kind: type[_Answer], place: str) -> _Answer | MalformedItem:
    try:
        return msgspec.json.decode(raw, type=kind)
    except Exception as error:
        reason = refusal(error, place, bytes(raw))
        return MalformedItem(f"malformed {blake2b(raw, digest_size=16).hexdigest()}", reason)


def clusters(body: bytes, place: str) -> list[RunAiCluster]:
    """Decode a list of clusters, bare or in an object."""
    if body.lstrip().startswith(b"["):
        return decode(body, list[RunAiCluster], place)
    return decode(body, RunAiClusters, place).clusters or []


def epoch_ms(text: str | None) -> int | None:
    """Return a time in UTC epoch ms, or None for none or for what is no time. A time without a zone is UTC."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def stamp(t_ms: int) -> str:
    """Return a time as the API accepts it, in whole seconds if it is one."""
    time = datetime.fromtimestamp(t_ms / 1000, UTC)
    return time.isoformat(timespec="milliseconds" if t_ms % 1000 else "seconds").replace("+00:00", "Z")
