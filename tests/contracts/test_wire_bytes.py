"""The bytes of messages never change: other producers and stored topics depend on them.

The bodies below are copies of what version 1 of the wire format wrote. The comparison is byte by byte, so it also pins
the order of fields and the fields that are left out.
"""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

from contracts import codec
from contracts.events import Batch
from producers.runtime.batching import token_batch
from tests.contracts.batches import POWER, TOKENS, USAGE, event, same

COUNTED = replace(
    TOKENS, requests=np.array([3, 0], np.int64), session_id=(), trace_id=(), statuses=("ok",),
    status=np.zeros(2, np.uint16), t_ms=0,
)  # fmt: skip
HEARTBEAT = token_batch([], 5)

POWER_PACKED = (
    "iqRub2Rlom4xpGdwdXOSkqVHUFUtMKRIMTAwkqVHUFUtMaRIMTAwo2dwdcQEAAABAKV0MF9tc8QQAGjlz4sBAAAAaOXPiwEAAKV0"
    "MV9tc8QQ6Gvlz4sBAADQb+XPiwEAAKllbmVyZ3lfdWrEEAcAAAAAAAAACAAAAAAAAACmbWV0aG9kxAIAAqdidXN5X21zxBD0AQAA"
    "AAAAAP//////////pW93bmVyo2xhYqR0X21zzwAAAYvP5XO4"
)
POWER_JSON = (
    '{"node":"n1","gpu_uuid":["GPU-0","GPU-1"],"hardware":["H100","H100"],"t0_ms":[1700000000000,17000000'
    '00000],"t1_ms":[1700000001000,1700000002000],"energy_uj":[7,8],"method":["counter","estimated"],"bus'
    'y_ms":[500,-1],"owner":"lab","t_ms":1700000003000}'
)

TOKENS_PACKED = (
    "3gAPpW5hbWVzkpKkYWNtZaZnbG9iZXiRoW2mdGVuYW50xAQAAAEApW1vZGVsxAQAAAAAqnJlcXVlc3RfaWSSonIxonIyqnRfc3Rh"
    "cnRfbXPEEABo5c+LAQAAAGjlz4sBAACqdF9maXJzdF9tc8QQCmjlz4sBAAAAAAAAAAAAAKh0X2VuZF9tc8QQhGvlz4sBAAAAaOXP"
    "iwEAAK1wcm9tcHRfdG9rZW5zxBBkAAAAAAAAAAAAAAAAAAAArWNhY2hlZF90b2tlbnPEECgAAAAAAAAAAAAAAAAAAACxY29tcGxl"
    "dGlvbl90b2tlbnPEEAkAAAAAAAAAAAAAAAAAAACoc3RhdHVzZXOSom9rp3RpbWVvdXSmc3RhdHVzxAQAAAEAqnNlc3Npb25faWSS"
    "oXOgqHRyYWNlX2lkkqChdKR0X21zzwAAAYvP5XO4"
)
TOKENS_JSON = (
    '{"request_id":["r1","r2"],"tenant":["acme","globex"],"model":["m","m"],"t_start_ms":[1700000000000,1'
    '700000000000],"t_end_ms":[1700000000900,1700000000000],"prompt_tokens":[100,0],"completion_tokens":['
    '9,0],"t_first_ms":[1700000000010,0],"cached_tokens":[40,0],"status":["ok","timeout"],"session_id":["'
    's",""],"trace_id":["","t"],"t_ms":1700000003000}'
)

USAGE_PACKED = (
    "jaVtZXRlcpGrZ3B1X21pbnV0ZXOkdW5pdJGjbWlupnRlbmFudJGkYWNtZahxdWFudGl0eZGmLTEyLjUwpXQwX21zxAgAaOXPiwEA"
    "AKV0MV9tc8QIAGjlz4sBAACkdF9tc88AAAGLz+VoAKZvcmlnaW6RqnJ1bmFpOi8vYzGoZXZlbnRfaWSRrncxL2dwdV9taW51dGVz"
    "qnNlc3Npb25faWSRoXOodHJhY2VfaWSRoXSkc3RlcJGkcGxhbqpkaW1lbnNpb25zkYKjcG9ko3AtMKRub2RloA=="
)
USAGE_JSON = (
    '{"meter":["gpu_minutes"],"unit":["min"],"tenant":["acme"],"quantity":["-12.50"],"t0_ms":[17000000000'
    '00],"t1_ms":[1700000000000],"t_ms":1700000000000,"origin":["runai://c1"],"event_id":["w1/gpu_minutes'
    '"],"session_id":["s"],"trace_id":["t"],"step":["plan"],"dimensions":[{"pod":"p-0","node":""}]}'
)

HEARTBEAT_PACKED = (
    "3gAMpW5hbWVzkpCQpnRlbmFudMQApW1vZGVsxACqcmVxdWVzdF9pZJCqdF9zdGFydF9tc8QAqnRfZmlyc3RfbXPEAKh0X2VuZF9t"
    "c8QArXByb21wdF90b2tlbnPEAK1jYWNoZWRfdG9rZW5zxACxY29tcGxldGlvbl90b2tlbnPEAKhzdGF0dXNlc5Gib2ukdF9tcwU="
)
HEARTBEAT_JSON = (
    '{"request_id":[],"tenant":[],"model":[],"t_start_ms":[],"t_end_ms":[],"prompt_tokens":[],"completion'
    '_tokens":[],"t_ms":5}'
)

COUNTED_PACKED = (
    "3gAMpW5hbWVzkpKkYWNtZaZnbG9iZXiRoW2mdGVuYW50xAQAAAEApW1vZGVsxAQAAAAAqnJlcXVlc3RfaWSSonIxonIyqnRfc3Rh"
    "cnRfbXPEEABo5c+LAQAAAGjlz4sBAACqdF9maXJzdF9tc8QQCmjlz4sBAAAAAAAAAAAAAKh0X2VuZF9tc8QQhGvlz4sBAAAAaOXP"
    "iwEAAK1wcm9tcHRfdG9rZW5zxBBkAAAAAAAAAAAAAAAAAAAArWNhY2hlZF90b2tlbnPEECgAAAAAAAAAAAAAAAAAAACxY29tcGxl"
    "dGlvbl90b2tlbnPEEAkAAAAAAAAAAAAAAAAAAACoc3RhdHVzZXORom9rqHJlcXVlc3RzxBADAAAAAAAAAAAAAAAAAAAA"
)
COUNTED_JSON = (
    '{"request_id":["r1","r2"],"tenant":["acme","globex"],"model":["m","m"],"t_start_ms":[1700000000000,1'
    '700000000000],"t_end_ms":[1700000000900,1700000000000],"prompt_tokens":[100,0],"completion_tokens":['
    '9,0],"t_first_ms":[1700000000010,0],"cached_tokens":[40,0],"status":["ok","ok"],"requests":[3,0]}'
)


MESSAGES = [
    pytest.param(POWER, POWER_PACKED, POWER_JSON, id="power"),
    pytest.param(TOKENS, TOKENS_PACKED, TOKENS_JSON, id="tokens"),
    pytest.param(USAGE, USAGE_PACKED, USAGE_JSON, id="usage"),
    pytest.param(HEARTBEAT, HEARTBEAT_PACKED, HEARTBEAT_JSON, id="heartbeat"),
    pytest.param(COUNTED, COUNTED_PACKED, COUNTED_JSON, id="counted"),
]


@pytest.mark.parametrize(("batch", "packed", "text"), MESSAGES)
def test_a_batch_has_the_bytes_of_version_1(batch: Batch, packed: str, text: str) -> None:
    assert codec.encode(event(batch))[1] == base64.b64decode(packed)
    assert codec.encode(event(batch), content_type=codec.JSON)[1].decode() == text


@pytest.mark.parametrize(("batch", "packed", "text"), MESSAGES)
def test_stored_bytes_are_read_as_their_original_batch(batch: Batch, packed: str, text: str) -> None:
    headers, _ = codec.encode(event(batch))
    assert same(codec.decode(headers, base64.b64decode(packed)).batch, batch)
    headers, _ = codec.encode(event(batch), content_type=codec.JSON)
    if len(batch):  # A dictionary without rows is not part of a JSON body.
        assert same(codec.decode(headers, text.encode()).batch, batch)
