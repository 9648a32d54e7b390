"""Every gRPC method of the listener as every role, tenant and key: admitted as over HTTP, and nothing else is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from access.api_keys import key_text
from tests.producers.gateways.payloads import as_protobuf, span
from tests.producers.runtime.receiver.listener import Listener, token
from tests.producers.runtime.receiver.test_grpc_server import calls
from tests.security import test_senders as senders
from tests.security.test_access_to_receivers import KEYS, NAMED, TOKENS, UNNAMED, folder, keys, walked

__all__ = ["folder", "keys", "walked"]  # Fixtures: keys in a file, and one listener for all senders.


def _spans() -> Any:
    names = {"gen_ai.request.model": "llama-3", "gen_ai.response.model": "llama-3", "gen_ai.usage.output_tokens": 5}
    times = {"start": (senders.NOW_MS - 1000) * 10**6, "end": senders.NOW_MS * 10**6}
    return ExportTraceServiceRequest.FromString(as_protobuf([span(names) | times]))


METHODS: dict[str, tuple[str, Any, Callable[[], Any]]] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": (NAMED, TraceServiceStub, _spans),
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": (
        UNNAMED, MetricsServiceStub,
        lambda: json_format.Parse(senders.metrics()[1], ExportMetricsServiceRequest()),
    ),
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": (
        UNNAMED, LogsServiceStub,
        lambda: json_format.Parse(senders.logs()[1], ExportLogsServiceRequest()),
    ),
}  # fmt: skip
"""A message of tenant acme that each method takes, by what its sender needs."""


def check(walked: Listener, credential: str | None, may: set[str], codes: tuple[str, ...]) -> None:
    """Assert that a sender is admitted to these needs only, and that nothing else of it is on the log."""
    metadata = () if credential is None else (("authorization", credential),)
    for method, (need, stub, message) in METHODS.items():
        before = len(walked.broker.stored)
        (answer,) = calls(walked, lambda channel, s=stub, m=message: s(channel).Export(m(), metadata=metadata))
        count = len(walked.broker.stored) - before
        if need in may:
            assert (isinstance(answer, tuple), count) == (False, 1), (method, answer)
        else:
            assert isinstance(answer, tuple) and answer[0] in codes and count == 0, (method, answer, count)


def test_every_method_has_its_needs_here(walked: Listener) -> None:
    assert {route.grpc_method for route in walked.grpc_routes} == set(METHODS)


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_sends_what_its_scopes_and_tenants_admit(name: str, walked: Listener) -> None:
    claims, may = TOKENS[name]
    check(walked, token(sub=name, iss="idp", **claims), may, ("PERMISSION_DENIED", "INVALID_ARGUMENT"))


@pytest.mark.parametrize("name", KEYS)
def test_a_key_sends_what_its_scopes_and_tenants_admit(name: str, walked: Listener, keys: dict[str, str]) -> None:
    check(walked, f"Bearer {keys[name]}", KEYS[name][2], ("PERMISSION_DENIED", "INVALID_ARGUMENT"))


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "Bearer ",
        "Bearer x",
        "Basic YWNtZTphY21l",
        token(role="gateway").removeprefix("Bearer "),
        token(key="another secret of at least 32 bytes!", role="gateway"),
        token(role="gateway", exp=1),
        token(key="", algorithm="none", role="gateway"),
    ],
)
def test_a_sender_without_a_valid_token_sends_nothing(credential: str | None, walked: Listener) -> None:
    check(walked, credential, set(), ("UNAUTHENTICATED",))


@pytest.mark.parametrize("name", ["revoked", "expired", "cut short", "made up"])
def test_a_sender_without_a_valid_key_sends_nothing(name: str, walked: Listener, keys: dict[str, str]) -> None:
    texts = keys | {"cut short": keys["gateway"][:-1], "made up": key_text(b"\7" * 32)}
    check(walked, f"Bearer {texts[name]}", set(), ("UNAUTHENTICATED",))
