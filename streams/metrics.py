"""Metrics of a worker on /metrics. docs/metrics.md explains each; a test compares that page with this module."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MESSAGES = Counter("wattlog_stream_messages", "Messages read from the joined topics.")
WINDOWS = Counter("wattlog_stream_windows_final", "Windows made final and stored, per partition that had rows in them.")
RESTATED = Counter("wattlog_stream_windows_restated", "Windows of a workload that late facts restated.")
OLD_RESTATED = Counter(
    "wattlog_stream_old_windows_restated",
    "Windows of a workload that late facts restated longer than `max_age_ms` after their time.",
)
DEAD_LETTERS = Counter(
    "wattlog_stream_dead_letters", "Messages put on the dead-letter topic, by the field at fault.", ["field"]
)
NUMBERS_TAKEN = Counter(
    "wattlog_stream_numbers_taken", "Notices of runs of producers whose numbers more than one message claims."
)
STORE_RETRIES = Counter(
    "wattlog_stream_store_retries",
    "Calls that the warehouse refused and that were retried, by reason (warehouse/error_codes.py).",
    ["reason"],
)
STORE_OUTAGE = Gauge(
    "wattlog_stream_store_outage_seconds", "How long the warehouse has refused calls; 0 if it does not."
)
STORED_ROWS = Counter("wattlog_stream_rows_stored", "Rows that the warehouse accepted, of all tables.")
CATCHUP = Gauge(
    "wattlog_stream_catchup_rows_per_second", "Rows stored a second since an outage; 0 when it is caught up with."
)
FENCED = Counter("wattlog_stream_fenced", "Partitions dropped because another worker had claimed them.")
LOST = Counter(
    "wattlog_stream_lost_messages", "Messages that the log deleted unread, where `--accept-loss` went on without them."
)
REBALANCES = Counter("wattlog_stream_rebalances", "Rebalances that took this worker's partitions away.")
PARTITIONS = Gauge("wattlog_stream_partitions", "Partitions that this worker owns.")
OPEN_WINDOWS = Gauge("wattlog_stream_open_windows", "Windows that are not final yet, over all partitions owned.")
OPEN_ROWS = Gauge("wattlog_stream_open_rows", "Rows held in open windows: `max_open_rows` bounds them.")
CLOSED_EARLY = Counter(
    "wattlog_stream_closed_early", "Windows closed before their lateness had passed, because `max_open_rows` was met."
)
OPEN_KEYS = Gauge("wattlog_stream_open_keys", "GPUs, and tenants by workload and model, in open windows.", ["kind"])
SOURCES_FORGOTTEN = Gauge(
    "wattlog_stream_sources_forgotten",
    "Sources forgotten since assignment, because a partition read of more than it remembers.",
)
WATERMARK_LAG = Gauge(
    "wattlog_stream_watermark_lag_seconds", "How far a partition's watermark is behind the clock.", ["partition"]
)
SEQUENCE_GAPS = Gauge(
    "wattlog_stream_sequence_gaps",
    "Events that producers numbered and that have not arrived.",
    ["topic"],
)
UNACKED = Gauge("wattlog_stream_unacked_messages", "Messages read whose windows are not all final and stored.")
PAUSED = Gauge("wattlog_stream_paused", "1 while reading waits until what is above `max_open_rows` is stored.")
DUPLICATES = Gauge("wattlog_stream_duplicates", "Events recognised as duplicates since the partitions were assigned.")
LATE = Gauge("wattlog_stream_late_events", "Events that arrived after a window of theirs was final, since assignment.")
REREADS = Counter("wattlog_stream_rereads", "Places read again because messages on the log had not been delivered.")
EMPTY_OFFSETS = Counter("wattlog_stream_empty_offsets", "Offsets passed over: the log never held messages there.")
USAGE_ROWS = Counter("wattlog_stream_usage_rows", "Rows of wattlog.usage.v1 that were stored.")
USAGE_DUPLICATES = Counter(
    "wattlog_stream_usage_duplicates", "Rows of wattlog.usage.v1 that count elsewhere: copies of others."
)
USAGE_LAG = Gauge(
    "wattlog_stream_usage_lag_messages", "Messages of wattlog.usage.v1 that wait on the partitions owned."
)
