"""What Run:ai's API answers, as far as it is read. Other fields are left alone.

Shapes as in its reference (OpenAPI of 2.24 and later): times are RFC 3339 or have a space for the T, values of
measurements are texts, and nearly everything may be null. What is read must be named all the same: an answer without
its list is none, rather than one that lists nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from contracts.errors import Unavailable

_Answer = TypeVar("_Answer")


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
    workloads: list[RunAiWorkload] | None
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
    pods: list[RunAiPod] | None
    next: int | None = None


class RunAiSample(msgspec.Struct):
    value: str | float | int | None
    timestamp: str | None = None


class Measurement(msgspec.Struct):
    type: str
    labels: dict[str, str | None] | None = None
    values: list[RunAiSample] | None = None


class Measurements(msgspec.Struct):
    measurements: list[Measurement] | None


def read(body: bytes, kind: type[_Answer], where: str) -> _Answer:
    """A body as one of these. Raises Unavailable for one that is not: a proxy's page, or another version's."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Unavailable(
            f"{where} gives what cannot be read: {error}", "Is that the address of Run:ai?", reason="answer"
        ) from None


def clusters(body: bytes, where: str) -> list[RunAiCluster]:
    """A list of clusters, bare or in an object."""
    if body.lstrip().startswith(b"["):
        return read(body, list[RunAiCluster], where)
    return read(body, RunAiClusters, where).clusters or []


def epoch_ms(text: str | None) -> int | None:
    """A time in UTC epoch ms; None for none, and for what is no time. Without a zone it is UTC."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def stamp(t_ms: int) -> str:
    """A time as the API takes it, in whole seconds where it is one."""
    time = datetime.fromtimestamp(t_ms / 1000, UTC)
    return time.isoformat(timespec="milliseconds" if t_ms % 1000 else "seconds").replace("+00:00", "Z")
