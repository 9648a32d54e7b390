"""Faults of the simulated fleet: each with the kind and the source that a judge must name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.warehouse.reconciliation.fleet import Key, Requests, View, Workload

ANY = ""


def _same(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
    return {w.name: r}


def _all(rng: np.random.Generator, r: Requests, onset_s: float, pod: int, w: Workload) -> Requests:
    return r


def _nothing(rng: np.random.Generator, view: View, onset_h: int) -> None:
    return None


@dataclass(frozen=True)
class Fault:
    """A fault: its kind, its source, its subjects, and what it does to the gateway, the servers or the series."""

    kind: str
    source: str
    subjects: tuple[str, ...] = ()
    gateway: Callable[..., Mapping[str, Requests]] = _same
    servers: Callable[..., Requests] = _all
    series: Callable[..., None] = _nothing


def _from(r: Requests, onset_s: float) -> Any:
    return r.end >= onset_s


def _lose(share: float, *names: str) -> Callable[..., Mapping[str, Requests]]:
    def lose(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
        hit = _from(r, onset_s) & (rng.random(len(r.end)) < share) & (not names or w.name in names)
        return {w.name: r.take(~hit)}

    return lose


def _lose_long(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
    """Long answers are lost: a body limit of a receiver."""
    hit = _from(r, onset_s) & (r.tokens["prompt_tokens"] > 8_000)
    return {w.name: r.take(~hit)}


def _twice(share: float, *names: str) -> Callable[..., Mapping[str, Requests]]:
    def twice(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
        hit = _from(r, onset_s) & (rng.random(len(r.end)) < share) & (w.name in names)
        return {w.name: r.take(np.repeat(np.arange(len(r.end)), 1 + hit))}

    return twice


def _tokens(change: Callable[[dict[str, Any], Any, np.random.Generator], None], name: str) -> Any:
    def gateway(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
        if w.name != name:
            return {w.name: r}
        tokens = {quantity: column.copy() for quantity, column in r.tokens.items()}
        change(tokens, _from(r, onset_s), rng)
        return {w.name: replace(r, tokens=tokens)}

    return gateway


def _times(factor: float) -> Any:
    def change(tokens: dict[str, Any], hit: Any, rng: np.random.Generator) -> None:
        for column in tokens.values():
            column[hit] = np.floor(column[hit] * factor + rng.random(int(hit.sum())))

    return change


def _cached_twice(tokens: dict[str, Any], hit: Any, rng: np.random.Generator) -> None:
    tokens["prompt_tokens"][hit] += tokens["cached_tokens"][hit]


def _cached_left_out(tokens: dict[str, Any], hit: Any, rng: np.random.Generator) -> None:
    tokens["prompt_tokens"][hit] -= tokens["cached_tokens"][hit]


def _swapped(tokens: dict[str, Any], hit: Any, rng: np.random.Generator) -> None:
    prompt = tokens["prompt_tokens"].copy()
    tokens["prompt_tokens"][hit] = tokens["completion_tokens"][hit]
    tokens["completion_tokens"][hit] = prompt[hit]


def _no_usage(tokens: dict[str, Any], hit: Any, rng: np.random.Generator) -> None:
    streamed = hit & (rng.random(len(hit)) < 0.3)
    tokens["completion_tokens"][streamed] = 0


def _clock(seconds: float) -> Any:
    def gateway(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
        by = np.where(_from(r, onset_s), seconds, 0.0)
        return {w.name: replace(r, start=r.start + by, end=r.end + by)}

    return gateway


def _server_clock(seconds: float) -> Any:
    def servers(rng: np.random.Generator, r: Requests, onset_s: float, pod: int, w: Workload) -> Requests:
        by = np.where(_from(r, onset_s), seconds, 0.0)
        return replace(r, start=r.start + by, end=r.end + by)

    return servers


def _moved(name: str, to: str, tenant: str = "") -> Any:
    """Requests of a workload, or of one tenant of it, go to another name."""

    def gateway(rng: np.random.Generator, r: Requests, onset_s: float, w: Workload) -> Mapping[str, Requests]:
        if w.name != name:
            return {w.name: r}
        hit = _from(r, onset_s)
        if tenant:
            hit &= r.tenant == w.tenants.index(tenant)
            moved = np.where(hit, w.tenants.index(to) if to in w.tenants else len(w.tenants), r.tenant)
            return {w.name: replace(r, tenant=moved)}
        return {w.name: r.take(~hit), to: r.take(hit)}

    return gateway


def _pods(hit: Callable[[int, Workload], bool], change: Callable[[Requests, Any, Any], Requests]) -> Any:
    def servers(rng: np.random.Generator, r: Requests, onset_s: float, pod: int, w: Workload) -> Requests:
        return change(r, _from(r, onset_s), rng) if hit(pod, w) else r

    return servers


def _gone(r: Requests, hit: Any, rng: Any) -> Requests:
    return r.take(~hit)


def _read_twice(r: Requests, hit: Any, rng: Any) -> Requests:
    return r.take(np.repeat(np.arange(len(r.end)), 1 + hit))


def _answers(share: float, n: int) -> Callable[..., Requests]:
    """Some calls ask for n answers: the server counts the call and its prompt for each, the tokens of answers once."""

    def change(r: Requests, hit: Any, rng: Any) -> Requests:
        copies = np.where(hit & (rng.random(len(hit)) < share), n, 1)
        tokens = {**r.tokens, "completion_tokens": np.round(r.tokens["completion_tokens"] / copies)}
        tokens["cached_tokens"] = np.where(copies > 1, r.tokens["prompt_tokens"], r.tokens["cached_tokens"])
        return replace(r, tokens=tokens).take(np.repeat(np.arange(len(r.end)), copies))

    return change


def _service(r: Requests, hit: Any, rng: Any) -> Requests:
    """An address alternates between servers: each look differs from the other server's total, thousands of times."""
    tokens = {
        name: np.where(hit, column * rng.uniform(50, 5_000, len(hit)), column) for name, column in r.tokens.items()
    }
    copies = np.where(hit, rng.integers(20, 60, len(hit)), 1)
    return replace(r, tokens=tokens).take(np.repeat(np.arange(len(r.end)), copies))


def _scaled(source: str, quantity: str, subject: str, factor: float) -> Any:
    def series(rng: np.random.Generator, view: View, onset_h: int) -> None:
        column = view.series[Key(source, quantity, subject)]
        column[onset_h + 1 :] = np.round(column[onset_h + 1 :] * factor)

    return series


def _gpu_missing(rng: np.random.Generator, view: View, onset_h: int) -> None:
    for key in (
        Key("counter", "energy_uj", "chat"),
        Key("watts", "energy_uj", "chat"),
        Key("gpus", "energy_uj", "~n1"),
    ):
        view.series[key][onset_h + 1 :] *= 7 / 8
    for at in (("counter", "chat"), ("gpus", "~n1")):
        view.parts[at][onset_h + 1 :] = 7


def _outage(rng: np.random.Generator, view: View, onset_h: int) -> None:
    """The gateway's events of three hours are lost for good."""
    for key, column in view.series.items():
        if key.source in ("ledger", "hours", "days") and key.quantity != "energy_uj":
            column[onset_h + 1 : onset_h + 4] = 0


def _day_twice(rng: np.random.Generator, view: View, onset_h: int) -> None:
    for quantity in ("prompt_tokens", "requests"):
        view.series[Key("days", quantity, "chat")][onset_h + 1 :] *= 2


def _hours_lack(rng: np.random.Generator, view: View, onset_h: int) -> None:
    """One window of each hour is not in the table of hours."""
    for quantity in ("prompt_tokens", "completion_tokens"):
        column = view.series[Key("hours", quantity, "chat")]
        column[onset_h + 1 :] -= np.ceil(column[onset_h + 1 :] / 360)


FAULTS: dict[str, Fault] = {
    "0.1 % of all calls lost": Fault("lost", "ledger", gateway=_lose(0.001)),
    "3 % of one workload's calls lost": Fault("lost", "ledger", ("code",), gateway=_lose(0.03, "code")),
    "long prompts refused": Fault("lost", "ledger", gateway=_lose_long),
    "completions without usage": Fault("lost", "ledger", ("chat",), gateway=_tokens(_no_usage, "chat")),
    "every call twice": Fault("doubled", "ledger", ("chat",), gateway=_twice(1.0, "chat")),
    "2 % of the calls twice": Fault("doubled", "ledger", ("chat",), gateway=_twice(0.02, "chat")),
    "tokens in thousands": Fault("factor", "ledger", ("code",), gateway=_tokens(_times(1e-3), "code")),
    "tokens times thousand": Fault("factor", "ledger", ("code",), gateway=_tokens(_times(1e3), "code")),
    "cached added to the prompt": Fault("cached", "ledger", ("chat",), gateway=_tokens(_cached_twice, "chat")),
    "cached left out of the prompt": Fault("cached", "ledger", ("code",), gateway=_tokens(_cached_left_out, "code")),
    "prompt and completion swapped": Fault("swapped", "ledger", ("code",), gateway=_tokens(_swapped, "code")),
    "gateway's clock an hour ahead": Fault("shifted", "ledger", gateway=_clock(3600)),
    "gateway's clock 15 min behind": Fault("shifted", "ledger", gateway=_clock(-900)),
    "scraper's clock 2 h ahead": Fault("shifted", "servers", servers=_server_clock(7200)),
    "gateway silent": Fault("silent", "ledger", ("chat",), gateway=_lose(1.0, "chat")),
    "gateway silent for 3 hours": Fault("silent", "ledger", series=_outage),
    "server's page silent": Fault("silent", "servers", ("code",), servers=_pods(lambda p, w: w.name == "code", _gone)),
    "pod not read": Fault(
        "missing", "servers", ("chat",), servers=_pods(lambda p, w: w.name == "chat" and p == 1, _gone)
    ),
    "page read through two addresses": Fault(
        "doubled", "servers", ("embed",), servers=_pods(lambda p, w: w.name == "embed", _read_twice)
    ),
    "service in front of pods": Fault(
        "excess", "servers", ("chat",), servers=_pods(lambda p, w: w.name == "chat", _service)
    ),
    "several answers to a tenth of the prompts": Fault(
        "excess", "servers", ("chat",), servers=_pods(lambda p, w: w.name == "chat", _answers(0.1, 4))
    ),
    "two answers to a twentieth of the prompts": Fault(
        "excess", "servers", ("chat",), servers=_pods(lambda p, w: w.name == "chat", _answers(0.05, 2))
    ),
    "calls counted at another workload": Fault("mapping", "ledger", ("code", "embed"), gateway=_moved("code", "embed")),
    "calls no rule matches": Fault("mapping", "ledger", ("chat", "unmatched/m"), gateway=_moved("chat", "unmatched/m")),
    "wrong tenant rule": Fault("mapping", "ledger", ("chat",), gateway=_moved("chat", "globex", "acme")),
    "tenant of unknown keys": Fault("mapping", "ledger", ("chat",), gateway=_moved("chat", "?", "globex")),
    "counter in mJ for µJ": Fault("factor", "counter", ("code",), series=_scaled("counter", "energy_uj", "code", 1e-3)),
    "counter of two GPUs": Fault("doubled", "counter", ("embed",), series=_scaled("counter", "energy_uj", "embed", 2)),
    "GPU not measured": Fault("missing", "gpus", ("~n1",), series=_gpu_missing),
    "wall meter in kW": Fault("factor", "wall", ("~n2",), series=_scaled("wall", "energy_uj", "~n2", 1e-3)),
    "wall meter silent": Fault("silent", "wall", ("~n3",), series=_scaled("wall", "energy_uj", "~n3", 0)),
    "a day's rollup twice": Fault("doubled", "days", ("chat",), series=_day_twice),
    "hours lack a window": Fault("lost", "hours", ("chat",), series=_hours_lack),
}  # fmt: skip
