"""Kinds of sources, by what their silence means. A source is `KIND://cluster/node/workload`, percent-encoded.

An agent and a reader of pages or access logs say something at every look, with or without calls: one that says nothing
is off, or cut off. A receiver (`requests-tokens`, `otlp-tokens` ...), and a reader of what a gateway writes only for
its calls (LiteLLM's callback, a topic of spans), pass on calls alone: without calls they say nothing.
"""

from __future__ import annotations

import re

CALLS_ONLY = r"^(?:[^:]+-(?:tokens|power)|otel)://|^litellm://[^/]*/(?:[^h]|h[^t])"
"""Pattern of sources that pass on calls alone, for `re` and for ClickHouse. A LiteLLM source whose node is an http
address is a page of counters, which is read on a clock."""


def passes_on_calls_only(source: str) -> bool:
    """Return True for a source that says nothing while there are no calls, so that its silence is no loss."""
    return re.match(CALLS_ONLY, source) is not None
