"""A body that costs more to parse than it is worth is refused by name before objects are made of it."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.settings import Settings
from producers.common import body_cost
from producers.common.protobuf_wire import count_messages, most_messages
from producers.receivers.cloudevents.meter_rules import MeterRule
from producers.receivers.otlp_signals.plugin import OtlpConfig, build_logs, build_metrics
from producers.runtime.receiver.bodies import FREE_BYTES, MAX_RATIO, gunzip
from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.routes import open_routes
from tests.producers.frame import environment
from tests.producers.receivers.otlp_signals.messages import CLAUDE
from tests.producers.runtime.receiver.listener import Listener, listening
from tests.security.bodies import COSTLY, EVENTS, MANY, CostlyBody, export, field

RULE = MeterRule(slug="s", event_type="sum", value="$.value", unit="1")


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    folder: Path = tmp_path_factory.mktemp("listener")
    here = environment(Settings(cluster="c1", data=folder))
    options = OtlpConfig(metrics=(CLAUDE,), logs=("codex.sse_event",))
    routes = [route for route in open_routes(here) if route.kind not in ("cloudevents", "otlp-metrics", "otlp-logs")]
    routes += [build_metrics(options, here), build_logs(options, here)]
    with listening(folder, rules=[RULE], intakes=routes) as listener:
        yield listener


@pytest.mark.parametrize("costly", COSTLY.values(), ids=COSTLY)
def test_a_costly_body_is_refused_by_name(listener: Listener, costly: CostlyBody) -> None:
    headers = {"Content-Type": costly.content_type}
    answer = listener.client.post(costly.route, content=costly.body, headers=headers)
    if costly.refusal:
        assert answer.status_code in (400, 413, 422), answer.text
        assert costly.refusal in answer.json()["detail"]
    else:
        assert answer.status_code in (200, 202, 422)


@pytest.mark.parametrize("costly", COSTLY.values(), ids=COSTLY)
def test_a_packed_body_unpacks_to_no_more_than_its_size_makes_credible(costly: CostlyBody) -> None:
    packed = gzip.compress(costly.body)
    credible = FREE_BYTES + MAX_RATIO * len(packed)
    if len(costly.body) > credible:
        with pytest.raises(Rejected, match="unpack to more") as rejected:
            gunzip(packed, 2**30)
        assert rejected.value.status == 413
    else:
        assert gunzip(packed, 2**30) == costly.body


def test_empty_items_take_no_memory(listener: Listener) -> None:
    """The count makes no objects, so its peak is that of a few bodies."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    body = export(field(2, b"") * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="items"):
            body_cost.check_export(body, ExportTraceServiceRequest.DESCRIPTOR)
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()


def test_the_wire_walk_counts_the_messages_that_a_parser_makes() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request

    request = Request()
    scope = request.resource_spans.add().scope_spans.add()
    scope.scope.name = "s"
    for _ in range(3):
        span = scope.spans.add(name="a text that holds \n\x0a bytes of tags")
        span.attributes.add(key="k").value.array_value.values.add().kvlist_value.values.add(key="x")
        span.events.add()
        span.status.code = 2
    # Resource spans, scope spans, the scope; each span has an attribute of five messages, an event and a status.
    assert count_messages(request.SerializeToString(), Request.DESCRIPTOR, 1_000) == 3 + 3 * (1 + 6 + 2)


_TAGS = st.sampled_from([bytes([n << 3 | 2]) for n in range(1, 16)] + [b"\x8a\x00", b"\x92\x80\x00", b"\x0b", b"\x0c"])
_BODIES = st.recursive(
    st.binary(max_size=6),
    lambda inner: st.lists(st.tuples(_TAGS, inner)).map(
        lambda fields: b"".join(tag + bytes([len(content) & 0x7F]) + content for tag, content in fields)
    ),
)


@given(_BODIES)
def test_no_body_has_more_messages_than_the_quick_count(body: bytes) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

    for descriptor in (ExportTraceServiceRequest.DESCRIPTOR, MetricsData.DESCRIPTOR):
        assert count_messages(body, descriptor, 1_000) <= most_messages(body, descriptor)


@pytest.mark.parametrize("tag", [b"\x4a", b"\xca\x00", b"\xca\x80\x00"], ids=["plain", "longer", "longest"])
def test_attributes_count_however_their_tag_is_written(tag: bytes) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with pytest.raises(BadInput, match="values"):
        body_cost.check_export(export(field(2, (tag + b"\x00") * 1_000_001)), ExportTraceServiceRequest.DESCRIPTOR)


def test_commas_and_brackets_of_a_prompt_are_no_values(listener: Listener) -> None:
    text = ",[{" * MANY * 4
    body = b'{"id":"1","source":"s","type":"t","data":{"prompt":"%s"}}' % text.encode()
    answer = listener.client.post(EVENTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
