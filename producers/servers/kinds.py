"""The servers that Wattlog knows, by name."""

from __future__ import annotations

from collections.abc import Mapping

from producers.servers import sglang, tgi, triton, trtllm, vllm
from producers.servers.provider import InferenceMetricsProvider

KNOWN: Mapping[str, InferenceMetricsProvider] = {
    p.name: p for p in (vllm.PROVIDER, sglang.PROVIDER, tgi.PROVIDER, trtllm.PROVIDER, triton.PROVIDER)
}
