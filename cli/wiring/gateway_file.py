"""LiteLLM's configuration file: which models it serves from where, and what it reports. Keys in it are never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cli.wiring.machine import GatewayFile, GatewayModel
from contracts.errors import BadInput

MAX_BYTES = 4 * 2**20
MAX_MODELS = 1_000
CALLBACK = "wattlog"
"""Text in the name of Wattlog's callback, as the documents write it."""


def read_gateway_file(path: Path) -> GatewayFile:
    """Read a LiteLLM file. Raises BadInput for one that is none, OSError for one that cannot be read."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadInput("litellm", path.name, f"it is larger than {MAX_BYTES:,} bytes")
    return parse_gateway_file(content, str(path))


def parse_gateway_file(content: bytes, path: str) -> GatewayFile:
    """Return what matters of a LiteLLM file. Raises BadInput, which quotes nothing of it: it may hold keys."""
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark is not None else "somewhere"
        raise BadInput("litellm", path, f"it is no YAML ({place})") from None
    models = document.get("model_list") if isinstance(document, dict) else None
    if not isinstance(models, list):
        raise BadInput("litellm", path, "it has no `model_list`: is it LiteLLM's config.yaml?")
    general, settings = _table(document, "general_settings"), _table(document, "litellm_settings")
    callbacks = [settings.get(name) for name in ("callbacks", "success_callback")]
    return GatewayFile(
        path,
        tuple(model for entry in models[:MAX_MODELS] if (model := _model(entry)) is not None),
        counts_streams=general.get("always_include_stream_usage") is True,
        has_callback=CALLBACK in str(callbacks),
    )


def _model(entry: Any) -> GatewayModel | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("model_name"), str):
        return None
    parameters = _table(entry, "litellm_params")
    model, base = parameters.get("model"), parameters.get("api_base")
    name = model if isinstance(model, str) else ""
    return GatewayModel(entry["model_name"], name.partition("/")[2] or name, base if isinstance(base, str) else "")


def _table(document: dict[Any, Any], name: str) -> dict[Any, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}
