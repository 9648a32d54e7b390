"""Fuzzing of what strangers send: `python -m tests.security.fuzz --minutes 30 [--seed N]`.

Valid bodies of each route and each decoder of the log are mutated. Each mutant must be accepted, or refused with one of
the project's own errors, below 500 or 503, within `MAX_CPU_S`, and without memory that grows. Ends with status 1, and
prints the seeds of mutants that were not.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import logging
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from contracts import codec
from contracts.callers import ANYBODY
from contracts.errors import WattlogError
from contracts.events import Batch
from contracts.settings import Settings
from producers.api import ReceivedRequest, Route
from producers.receivers.cloudevents.events import cloudevents_route
from producers.receivers.cloudevents.meter_rules import MeterRule, MeterRules
from producers.receivers.otlp_signals.plugin import OtlpConfig, build_logs, build_metrics
from producers.runtime.deduplication import DeduplicationTrial, DeduplicationWindow
from producers.runtime.receiver.bodies import gunzip
from producers.runtime.receiver.messages import unnumbered_messages
from producers.runtime.receiver.problems import encode_problem, to_rejection
from producers.runtime.receiver.routes import open_routes
from producers.runtime.series_totals import SeriesTotals
from tests.contracts import batches
from tests.producers.frame import environment
from tests.producers.gateways.payloads import as_json, as_protobuf, payload, span
from tests.producers.receivers.feeds import request
from tests.producers.receivers.otlp_signals.messages import CLAUDE, counter, histogram, logs, metrics, record
from tests.producers.runtime.receiver.listener import NOW_MS, event
from tests.security.bodies import JSON, LINES, PROTOBUF
from tests.security.mutations import mutant

MAX_CPU_S = 5.0
"""CPU seconds of one mutant; they take milliseconds."""
MAX_GROWTH_MB = 512
"""Growth of the process over a run."""
LATER_MS = NOW_MS * 2
CLAUDE_EVENT, CODEX = "claude_code.api_request", "codex.sse_event"
_BATCHES: Mapping[str, Batch] = {"power": batches.POWER, "tokens": batches.TOKENS, "usage": batches.USAGE}


class Target(NamedTuple):
    """A reader of bodies, and valid ones. `read` raises for a body that it refuses."""

    read: Callable[[bytes], object]
    bodies: Sequence[bytes]


class Fault(NamedTuple):
    """A mutant that was not read or refused as it should be."""

    target: str
    seed: str
    error: str


def targets(folder: Path) -> Mapping[str, Target]:
    """Return every route with each of its encodings, every decoder of the log, and unpacking."""
    many = {f"{route.path} {kind}": Target(_reader(route, kind), bodies)
            for route in _routes(folder) for kind, bodies in _bodies(route.path).items()}  # fmt: skip
    for content_type in (codec.PACKED, codec.JSON):
        for name, batch in _BATCHES.items():
            many[f"{name} {content_type}"] = _log_decoder(batch, content_type)
    packed = [gzip.compress(body) for body in (b"", b"x" * 1_000, as_protobuf([span()]))]
    many["gzip"] = Target(lambda body: gunzip(body, 10**6), packed)
    return many


def fuzz(many: Mapping[str, Target], seeds: Iterator[str]) -> tuple[Counter[str], list[Fault]]:
    """Read one mutant of each target for each seed. Return the outcomes by target, and the faults."""
    outcomes, faults = Counter[str](), list[Fault]()
    for seed in seeds:
        for name, target in many.items():
            rng = random.Random(f"{seed} {name}")
            body = mutant(rng, rng.choice(target.bodies), target.bodies)
            begun_s = time.process_time()
            try:
                target.read(body)
                outcome = "accepted"
            except WattlogError as error:
                rejection = to_rejection(error)
                encode_problem(rejection, "/")
                outcome = "refused"
                if rejection.status >= 500 and rejection.status != 503:
                    faults.append(Fault(name, seed, repr(error)))
            except Exception as error:
                outcome = "fault"
                faults.append(Fault(name, seed, repr(error)[:200]))
            outcomes[f"{name}: {outcome}"] += 1
            if time.process_time() - begun_s > MAX_CPU_S:
                faults.append(Fault(name, seed, f"took {time.process_time() - begun_s:.1f} s of CPU"))
    return outcomes, faults


def _routes(folder: Path) -> list[Route]:
    here = environment(Settings(cluster="c1", data=folder))
    rule = MeterRule(slug="s", event_type="request", value="$.duration_seconds", unit="s", group_by={"m": "$.method"})
    meters = MeterRules([rule], workload="external")
    metric_options, log_options = OtlpConfig(metrics=(CLAUDE,)), OtlpConfig(logs=(CLAUDE_EVENT, CODEX))
    others = [route for route in open_routes(here) if route.kind not in ("cloudevents", "otlp-metrics", "otlp-logs")]
    events = cloudevents_route(meters, cluster="c1", max_events=100, ahead_ms=LATER_MS)
    return [events, build_metrics(metric_options, here), build_logs(log_options, here), *others]


def _bodies(path: str) -> Mapping[str, Sequence[bytes]]:
    ids = itertools.count()
    if path == "/v1/traces":
        nested = [
            span(),
            span(id="bb" * 8, parent="aa" * 8),
            span({"gen_ai.operation.name": "invoke_agent"}, id="cc" * 8),
        ]
        return {PROTOBUF: [as_protobuf([span()]), as_protobuf(nested)], JSON: [as_json([span()]), as_json(nested)]}
    if path == "/v1/metrics":
        items = [counter({"input": 1, "output": 2}), histogram({"input": (5.0, 1)})]
        return {kind: [metrics(one, content_type=kind) for one in items] for kind in (PROTOBUF, JSON)}
    if path == "/v1/logs":
        return {kind: [logs(record(request_id="r1"), content_type=kind)] for kind in (PROTOBUF, JSON)}
    if path == "/litellm":
        one = [json.dumps(payload()).encode(), json.dumps([payload(id=f"c{next(ids)}") for _ in range(3)]).encode()]
        return {JSON: one, LINES: [b"\n".join(json.dumps(payload()).encode() for _ in range(2))]}
    if path == "/v1/requests":
        one = [json.dumps(request("r1")).encode(), json.dumps([request("r2"), request("r3")]).encode()]
        return {JSON: one, LINES: [b"\n".join(json.dumps(request(f"r{n}")).encode() for n in range(2))]}
    events = [json.dumps(event()).encode(), json.dumps([event("1"), event("2")]).encode()]
    return {JSON: events, "application/cloudevents+json": events[:1], "application/cloudevents-batch+json": events[1:]}


def _reader(route: Route, content_type: str) -> Callable[[bytes], object]:
    def read(body: bytes) -> object:
        trial = DeduplicationTrial(DeduplicationWindow(), SeriesTotals())
        sent = ReceivedRequest(body, content_type, {}, ANYBODY, NOW_MS)
        parsed = route.parse(sent, trial)
        unnumbered_messages(route.kind, "n1", parsed.batches)
        return route.reply(sent, parsed)

    return read


def _log_decoder(batch: Batch, content_type: str) -> Target:
    headers, value = codec.encode(batches.event(batch), content_type=content_type)

    def read(body: bytes) -> object:
        decoded = codec.decode(headers, body)
        return codec.encode(decoded)

    return Target(read, [value])


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.security.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", default="", help="one seed to repeat")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    end_s = time.monotonic() + 60 * options.minutes
    first = time.time_ns()
    seeds = iter([options.seed]) if options.seed else map(
        str, itertools.takewhile(lambda _: time.monotonic() < end_s, itertools.count(first))
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        many = targets(Path(folder))
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes, faults = fuzz(many, seeds)
    growth_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) // 1_024
    for name, count in sorted(outcomes.items()):
        print(f"{count:9,} {name}")
    for fault in faults[:50]:
        print(f"FAULT {fault.target}: {fault.error} (--seed {fault.seed})")
    print(f"{outcomes.total():,} mutants, {len(faults)} faults, memory grew by {growth_mb} MB")
    return int(bool(faults) or growth_mb > MAX_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
