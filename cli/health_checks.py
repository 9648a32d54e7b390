"""Checks of `wattlog doctor`. Each yields findings; a check that cannot run yields a failed one, and the next runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import cast

from confluent_kafka import Consumer, KafkaException, TopicPartition

from api.auth import check_exposure
from cli.finding import Finding
from cli.ledger_access import open_warehouse, patience_of
from cli.running_ledger import running_ledger
from contracts import topics
from contracts.codec import decode
from contracts.errors import BadEvent, Unavailable, WattlogError
from contracts.host_port import host_port
from contracts.settings import Settings
from contracts.units import MS_PER_DAY, EpochMs, counted
from producers import registry
from producers.api import Kind, NotHere
from producers.common.time_limit import TimeLimit
from producers.runtime.publisher import kafka_config
from producers.runtime.refusals import describe
from producers.runtime.runner import check
from streams import kafka_admin
from streams.consumer_group import usage_group
from warehouse.audit.conservation import audit
from warehouse.audit.names import recent_names_apart, sentence
from warehouse.audit.same_calls import same_calls, same_calls_sentence
from warehouse.audit.unnamed_tenants import HINT, recent_unnamed_tenants, unnamed_sentence
from warehouse.client import Warehouse
from warehouse.dsn import IN_USE
from warehouse.migrate import pending
from warehouse.periods import Period, newest
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import list_prices

TIMEOUT_S = 5.0
LIMIT_S = 60.0
"""Wait for a check's next finding, or for the warehouse to open. A check of more than that ends with a failed one."""
MAX_NAMES = 10
"""Workloads without GPUs that are named."""
PATIENCE_S = 20.0
"""Wait before a difference in a fleet's books is looked at again: workers write meanwhile."""
_LOSS_HINT = "Lengthen the topics' retention; `wattlog stream --accept-loss` continues without the lost messages."


def run_checks(settings: Settings, limit_s: float = LIMIT_S) -> Iterator[Finding]:
    """Run all checks, in the order of the data flow. None waits longer than `limit_s` for a server that hangs."""
    yield from _producers(settings, limit_s)
    if settings.embedded_broker:
        yield Finding(
            "broker",
            "note",
            "none configured: demo, replay and up have their own",
            "Set WATTLOG_KAFKA_BOOTSTRAP for a real one.",
        )
    else:
        yield from _checked("broker", _within(limit_s, _log(settings)))
    yield from _checked("warehouse", _warehouse(settings, limit_s))
    yield from _checked("api", _api(settings))


def _checked(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings of a check. An error that ends it, of whatever class, is one more: the next checks run."""
    try:
        yield from findings
    except WattlogError as error:
        yield Finding(name, "failed", str(error))
    except Exception as error:
        yield Finding(name, "failed", f"the check failed ({describe(error)})")


def _within(limit_s: float, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings. Raises OverTimeError where the next one takes longer: a thread is left waiting for it."""
    limit = TimeLimit(limit_s)
    while (finding := limit.run("check", partial(next, findings, None))) is not None:
        yield finding


def _api(settings: Settings) -> Iterator[Finding]:
    """Check that the API would not be open to other machines without a key."""
    check_exposure(settings)
    yield Finding("api", "ok", f"would listen on {host_port(settings.api_host, settings.api_port)}")


def _producers(settings: Settings, limit_s: float) -> Iterator[Finding]:
    """Check each source that is configured, and name the plug-ins that cannot be loaded."""
    for plugin in registry.plugins():
        yield from _checked(plugin.name, _within(limit_s, _source(plugin, settings)))
    for name, problem in registry.problems():
        yield Finding(name, "failed", f"the plug-in cannot be loaded: {problem}")


def _source(plugin: registry.AnyPlugin, settings: Settings) -> Iterator[Finding]:
    for where, result in check(plugin, settings):
        if isinstance(result, str):
            yield Finding(plugin.name, "ok", f"{where}: {result}" if where else result)
        elif isinstance(result, NotHere):
            is_command = plugin.kind is not Kind.SHARED
            hint = f"Only nodes that run `wattlog produce {plugin.name}` need it." if is_command else ""
            yield Finding(plugin.name, "note", str(result), hint)
        else:
            text = str(result) or type(result).__name__
            yield Finding(plugin.name, "failed", text if where in text else f"{where}: {text}")


def _log(settings: Settings) -> Iterator[Finding]:
    config = {**kafka_config(settings), "log_level": 0}
    log_id = kafka_admin.identity(config, settings.kafka_bootstrap)
    count = kafka_admin.partition_count(topics.JOINED, config, settings.kafka_bootstrap)
    yield Finding("broker", "ok", f"{settings.kafka_bootstrap}, log {log_id}")
    yield Finding("topics", "ok", f"{', '.join(topics.JOINED)}: {count} partitions each")
    yield from _checked("lag", _offsets(settings, config, count))
    yield from _checked("usage", _usage(settings, config))


def _usage(settings: Settings, config: dict[str, object]) -> Iterator[Finding]:
    """Check lag and loss of the job that stores usage."""
    group = usage_group(settings)
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    try:
        count = kafka_admin.partition_count([topics.USAGE], config, settings.kafka_bootstrap)
        partitions = [TopicPartition(topics.USAGE, p) for p in range(count)]
        lag, lost = _lag_and_loss(consumer, partitions)
        if lost:
            yield Finding(
                "loss",
                "failed",
                f"{counted(lost, 'message', 'was', 'were')} trimmed unread from {topics.USAGE}",
                _LOSS_HINT,
            )
        yield Finding("usage", "ok", f"{counted(lag, 'message', 'is', 'are')} not stored yet by group {group}")
    except (KafkaException, WattlogError) as error:
        yield Finding("usage", "failed", str(error))
    finally:
        consumer.close()


def _offsets(settings: Settings, config: dict[str, object], count: int) -> Iterator[Finding]:
    """Check lag and loss of the consumer group, and that no event on the log is from the future."""
    consumer = Consumer({**config, "group.id": settings.kafka_group, "enable.auto.commit": False})
    try:
        partitions = [TopicPartition(t, p) for t in topics.JOINED for p in range(count)]
        lag, lost = _lag_and_loss(consumer, partitions)
        if lost:
            yield Finding(
                "loss", "failed", f"{counted(lost, 'message', 'was', 'were')} trimmed before being read", _LOSS_HINT
            )
        yield Finding(
            "lag",
            "ok",
            f"{counted(lag, 'message', 'is', 'are')} not final and stored yet by group {settings.kafka_group}",
        )
        ahead_ms = _ahead_ms(consumer, partitions)
        if ahead_ms > settings.skew_ms:
            yield Finding(
                "clock skew",
                "failed",
                f"the log's newest event is {ahead_ms} ms ahead of this clock",
                "Run NTP on producers and here, or raise WATTLOG_SKEW_MS.",
            )
        else:
            yield Finding(
                "clock skew", "ok", f"nothing on the log is more than {settings.skew_ms} ms ahead of this clock"
            )
    except KafkaException as error:
        yield Finding("lag", "failed", str(error), "Is the broker overloaded? Try again.")
    finally:
        consumer.close()


def _lag_and_loss(consumer: Consumer, partitions: list[TopicPartition]) -> tuple[int, int]:
    """Return the numbers of messages that the group has not committed, and of those trimmed before it read them."""
    lag = lost = 0
    for tp in kafka_admin.offsets(consumer, partitions):
        low, high = consumer.get_watermark_offsets(tp, timeout=TIMEOUT_S)
        lag += high - max(tp.offset, low)
        lost += max(low - tp.offset, 0) if tp.offset >= 0 else 0
    return lag, lost


def _ahead_ms(consumer: Consumer, partitions: list[TopicPartition]) -> int:
    """Return how far the newest event of any partition is ahead of this clock; negative if it is behind."""
    newest_ms = 0
    last = []
    for tp in partitions:
        _, high = consumer.get_watermark_offsets(tp, timeout=TIMEOUT_S)
        if high > 0:
            last.append(TopicPartition(tp.topic, tp.partition, high - 1))
    if not last:
        return -1
    consumer.assign(last)
    for _ in last:
        message = consumer.poll(TIMEOUT_S)
        if message is not None and message.error() is None:
            with suppress(BadEvent):  # It will be a dead letter: it has no event time.
                headers = cast("list[tuple[str, bytes | None]] | None", message.headers())
                newest_ms = max(newest_ms, decode(headers, message.value()).batch.event_ms)
    return newest_ms - time.time_ns() // 1_000_000


def _warehouse(settings: Settings, limit_s: float) -> Iterator[Finding]:
    # An embedded one is opened in this thread, which then uses it.
    limit = None if settings.dsn.startswith("chdb://") else TimeLimit(limit_s)
    open_ = partial(open_warehouse, settings)
    try:
        opened = open_() if limit is None else limit.run("warehouse", open_)
    except Unavailable as error:
        if error.reason != IN_USE:
            raise
        yield from running_ledger(settings, error)
        return
    with opened as warehouse:
        yield Finding("warehouse", "ok", warehouse.where)
        missing = pending(warehouse)
        if missing:
            are = "migration is" if len(missing) == 1 else "migrations are"
            says = f"{len(missing)} {are} pending: {', '.join(missing)}"
            yield Finding("schema", "failed", says, "Run `wattlog migrate`.")
            return
        yield Finding("schema", "ok", "up to date")
        yield _prices(warehouse)
        yield from _names(warehouse)
        yield from _tenants(warehouse)
        yield from _senders(warehouse)
        yield _ledger(warehouse, settings)


def _prices(warehouse: Warehouse) -> Finding:
    clusters = {r["cluster"] for r in warehouse.ask("ledger/billed_clusters")}
    priced = {p.cluster for p in list_prices(warehouse) if p.kind == "energy"}
    bare = sorted(clusters - priced) if "*" not in priced else []
    if bare:
        return Finding(
            "prices",
            "note",
            f"no tariff for cluster {', '.join(bare[:5])}: its cost is left empty",
            "Store one with `wattlog prices set energy CLUSTER VALUE --from always`.",
        )
    return Finding("prices", "ok", f"a tariff for each of {len(clusters)} clusters with a ledger")


def _names(warehouse: Warehouse) -> Iterator[Finding]:
    """Check that tokens and GPUs of each workload met within the ledger's last day."""
    reader = operator_reader(warehouse)
    final_end = newest(reader).final_end
    apart = recent_names_apart(reader, final_end) if final_end else []
    for finding in apart[:MAX_NAMES]:
        yield Finding(
            "names", "failed", f"{sentence(finding)} ({counted(finding.tokens, 'token')} in a day)", finding.join
        )
    if apart[MAX_NAMES:]:
        more = len(apart) - MAX_NAMES
        yield Finding(
            "names",
            "failed",
            f"{counted(more, 'further workload', 'has', 'have')} tokens and no GPU",
            "Run `wattlog audit`.",
        )
    if not apart:
        yield Finding("names", "ok", "each workload with tokens has GPUs")


def _tenants(warehouse: Warehouse) -> Iterator[Finding]:
    """Note the workloads with calls of no tenant in the ledger's last day."""
    reader = operator_reader(warehouse)
    final_end = newest(reader).final_end
    for unnamed in (recent_unnamed_tenants(reader, final_end) if final_end else [])[:MAX_NAMES]:
        yield Finding("tenants", "note", unnamed_sentence(unnamed, "in a day"), HINT)


def _senders(warehouse: Warehouse) -> Iterator[Finding]:
    """Check that no two senders reported the same calls in the ledger's last day."""
    reader = operator_reader(warehouse)
    if final_end := newest(reader).final_end:
        day = Period(EpochMs(max(final_end - MS_PER_DAY, 0)), EpochMs(final_end))
        for finding in same_calls(reader, day)[:MAX_NAMES]:
            yield Finding("senders", "failed", same_calls_sentence(finding), finding.stop)


def _ledger(warehouse: Warehouse, settings: Settings) -> Finding:
    patience = patience_of(warehouse, PATIENCE_S)
    report = audit(operator_reader(warehouse), requests=settings.requests, **patience)
    if report.ok:
        return Finding("books", "ok", f"{counted(report.windows, 'window', 'balances', 'balance')}, residual 0")
    says = [
        f"residual {report.residual_uj} uJ, {counted(report.sequence_gaps, 'event')} missing",
        *report.bill_shortfalls,
    ]
    hint = "Run `wattlog audit`."
    if report.bill_shortfalls:
        hint += " Hours that no worker owes any more are computed when `wattlog chargeback` opens this folder."
    return Finding("books", "failed", "; ".join(says), hint)
