"""Lines of configuration that join a workload's tokens with its GPUs, in TOML that may be pasted as it is. Pure.

What only a person can decide stands in comments: pasting it changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from glob import escape
from typing import NamedTuple

from contracts.workload_names import UNMATCHED_PREFIX

MAX_MODELS = 16
"""Models of a workload that the lines name."""
MAX_CHOICES = 3
"""Workloads with GPUs among which a person chooses."""
_OPTIONS = {
    "accesslog": "accesslog", "litellm": "litellm", "otel": "otel", "otlp": "otel", "otlp-metrics": "otlp",
    "otlp-logs": "otlp", "requests": "requests", "cloudevents": "requests",
}  # fmt: skip
"""Kinds of sources whose options have rules named `deployments`, with the name of the options."""
_SERVERS = "in the entry of [[produce.servers.at]] or [[produce.servers.pods]] that reads it"


class PlacedName(NamedTuple):
    """A workload of a cluster."""

    cluster: str
    workload: str


class TokensApart(NamedTuple):
    """A workload with tokens and no GPUs, the models of its requests, and the kind of source that sent them."""

    cluster: str
    workload: str
    models: Sequence[str]
    source_kind: str

    @property
    def options(self) -> str | None:
        """Name of the options with rules for its requests; None for an inference server's page."""
        return _OPTIONS.get(self.source_kind.removesuffix("-tokens"))

    @property
    def is_unmatched(self) -> bool:
        return self.workload.startswith(UNMATCHED_PREFIX)


def joining_lines(
    tokens: TokensApart, gpus: Sequence[PlacedName], by_model: Mapping[str, PlacedName], *, is_met: bool
) -> str:
    """Return the lines for tokens and the workloads with GPUs that may be the same.

    `by_model` has those of models that one workload alone fits. With `is_met` the tokens have GPUs in other hours.
    """
    if is_met:
        return "\n".join(_renamed(tokens, gpus))
    if not gpus:
        return "\n".join(_nowhere(tokens))
    if tokens.options is None:
        return "\n".join(_of_server(tokens, gpus))
    return "\n".join([*_rules(tokens, gpus, by_model, tokens.options), *_other_ways(tokens, gpus)])


def _renamed(tokens: TokensApart, gpus: Sequence[PlacedName]) -> Iterator[str]:
    """Yield what is to be done where the tokens met their GPUs under this name: a rule would part them there."""
    if not gpus:
        yield f"# no agent reported GPUs of {tokens.workload} in these hours: was it off, or do they have another name?"
        return
    names = " or ".join(dict.fromkeys(f"{other.cluster}/{other.workload}" for other in gpus[:MAX_CHOICES]))
    yield f"# in other hours the GPUs of {tokens.workload} have its name: were they called {names} in these?"
    yield f"# then call them {tokens.workload} of cluster {tokens.cluster} always (WATTLOG_WORKLOAD, WATTLOG_CLUSTER,"
    yield "# a label, or a rule of bindings); a rule for its requests would part them in the other hours"


def _nowhere(tokens: TokensApart) -> Iterator[str]:
    if tokens.is_unmatched:
        yield "# no GPUs without tokens are there: name the workload that serves it in a rule of"
        yield f"# [[produce.{tokens.options or 'servers.at'}.deployments]]" if tokens.options else f"# {_SERVERS}"
        return
    yield "# no GPUs without tokens are there. On the nodes that serve it, the agent names its GPUs with"
    yield f"# WATTLOG_WORKLOAD={tokens.workload} WATTLOG_CLUSTER={tokens.cluster}, a label, or a rule of bindings"


def _of_server(tokens: TokensApart, gpus: Sequence[PlacedName]) -> Iterator[str]:
    yield f"# {_SERVERS}"
    if len(gpus) > 1:
        yield "# which one it serves is open: take away the # of one"
    mark = "# " if len(gpus) > 1 else ""
    for other in gpus[:MAX_CHOICES]:
        yield from (mark + line for line in _place(tokens, other))
    if len(gpus) == 1:
        yield from _other_ways(tokens, gpus)


def _rules(
    tokens: TokensApart, gpus: Sequence[PlacedName], by_model: Mapping[str, PlacedName], options: str
) -> Iterator[str]:
    """Yield a rule for each model; where several workloads fit it, one in comments for each of them."""
    unmatched = [tokens.workload.removeprefix(UNMATCHED_PREFIX)] if tokens.is_unmatched else []
    models: Sequence[str] = unmatched or tokens.models[:MAX_MODELS]
    decided = {model: gpus[0] if len(gpus) == 1 else by_model.get(model) for model in models or [""]}
    if any(decided.values()):
        yield "# above the other rules of this kind: the first that matches counts"
    for model, other in decided.items():
        pattern = escape(model) or "*"
        if other is not None:
            yield from _rule(options, pattern, tokens, other)
            continue
        named = f"model {model}" if model else tokens.workload
        yield f"# which of these serves {named} is open: take away the # of one rule, and put it above the others;"
        yield "# if several do, take all of them, each with an `api_base` or `route` that only its requests have"
        for choice in gpus[:MAX_CHOICES]:
            yield from (f"# {line}" for line in _rule(options, pattern, tokens, choice))


def _rule(options: str, pattern: str, tokens: TokensApart, other: PlacedName) -> list[str]:
    return [f"[[produce.{options}.deployments]]", f"model = {_quoted(pattern)}", *_place(tokens, other)]


def _place(tokens: TokensApart, other: PlacedName) -> list[str]:
    place = [f"workload = {_quoted(other.workload)}"]
    return place + ([f"cluster = {_quoted(other.cluster)}"] if other.cluster != tokens.cluster else [])


def _other_ways(tokens: TokensApart, gpus: Sequence[PlacedName]) -> Iterator[str]:
    """Yield what else joins them, in comments, where one workload has the GPUs."""
    if len(gpus) != 1 or tokens.is_unmatched:
        return
    [other] = gpus
    if tokens.options == "requests":
        yield f"# or let its sender post workload = {_quoted(other.workload)}, if it names {tokens.workload}"
    if other.workload == tokens.workload:
        yield f"# or WATTLOG_CLUSTER={tokens.cluster} on the nodes of its GPUs"
    else:
        yield f"# or the name {tokens.workload} for its GPUs (WATTLOG_WORKLOAD, a label, or a rule of bindings)"


def _quoted(text: str) -> str:
    """Return a text as TOML has it. Names have no control characters."""
    return json.dumps(text, ensure_ascii=False)
