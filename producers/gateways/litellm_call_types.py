"""LiteLLM's call types (its `CallTypes`): those that are inference, with the kind of endpoint.

A call of any other type does no work of a model: it retrieves, lists, polls, searches, or calls a tool.
"""

from __future__ import annotations

from collections.abc import Mapping

_ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "chat": (
        "completion", "anthropic_messages", "generate_content", "generate_content_stream", "responses",
        "_aresponses_websocket", "compact_responses", "create_interaction", "_arealtime",
    ),
    "completion": ("text_completion",),
    "embedding": ("embedding",),
    "rerank": ("rerank",),
    "image": ("image_generation", "image_edit"),
    "video": ("create_video", "video_generation", "video_remix", "video_edit", "video_extension"),
    "audio": ("transcription", "speech"),
    "moderation": ("moderation",),
    "ocr": ("ocr", "extraction"),
    "decision": ("decisions", "systemone"),
    "": ("pass_through_endpoint", "llm_passthrough_route"),
}  # fmt: skip
INFERENCE: Mapping[str, str] = {
    name: endpoint for endpoint, types in _ENDPOINTS.items() for one in types for name in (one, f"a{one}")
}
"""Kind of endpoint by call type; "" where the type does not say. Asynchronous calls have an `a` before their type."""
BATCHES = frozenset({"retrieve_batch", "aretrieve_batch"})
"""Polls of a batch. Once it is done, each of them reports the tokens of the whole batch."""
