"""Lines for the person who wires a machine: what was recognised, and what to add to other programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from shlex import quote

from cli.wiring.machine import Machine
from cli.wiring.settings_text import CALLBACK_FOLDER


def sights(machine: Machine) -> Iterator[str]:
    """Yield a line for each part of the machine that was recognised."""
    for source in machine.gpus:
        place = f", {source.url}" if source.url else ""
        count = "1 GPU" if source.gpus == 1 else f"{source.gpus} GPUs"
        yield f"{count} through {source.sensor}{place}: {', '.join(source.hardware)}"
    for page in machine.servers:
        yield f"{page.server} at {page.url}: {', '.join(page.models) or 'no model named yet'}"
    if (gateway := machine.gateway) is not None:
        yield f"LiteLLM's {gateway.path}: {', '.join(model.name for model in gateway.models) or 'no models'}"


def advice(machine: Machine, *, folder: str, callback: str) -> Iterator[str]:
    """Yield lines for a person. `folder` is that of the settings file, `callback` the path of LiteLLM's callback."""
    vllm = [page.url for page in machine.servers if page.server == "vllm"]
    if vllm:
        yield "vLLM: start it with --enable-prompt-tokens-details, or answers do not say which tokens were cached."
    gateway = machine.gateway
    if gateway is None:
        return
    if not (gateway.counts_streams and gateway.has_callback):
        yield f"LiteLLM: add to {gateway.path}, then restart it:"
    if not gateway.counts_streams:
        yield "  general_settings:"
        yield "    always_include_stream_usage: true    # else streamed answers are counted by estimate"
    if not gateway.has_callback:
        yield "  litellm_settings:"
        yield '    callbacks: ["wattlog_callback.wattlog"]'
        yield "and put the callback beside that file:"
        target = quote(f"{gateway.path.rpartition('/')[0] or '.'}/wattlog_callback.py")
        line = f"wattlog = WattlogLogger({json.dumps(f'{folder}/{CALLBACK_FOLDER}', ensure_ascii=False)})"
        yield f"  cp {quote(callback)} {target}"
        yield f"  echo {quote(line)} >> {target}"
