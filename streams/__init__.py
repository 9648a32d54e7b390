"""Streams: from the log to the ledger.

`core/`                 the pure state machines and the attribution, without I/O or clock.
`startup`               tables, offsets, then the two consumers below, until one of them ends.
`app`                   the Faust shell: consumer group, lifecycle, dead letters.
`stream_worker`         the two loops of a worker: ingest and store.
`assignment`            the partitions that a worker owns, and the offsets that it may commit.
`inbox`                 bounded queue of delivered messages.
`offset_gap_resolver`   lost, empty or undelivered offsets.
`flush`                 one flush over all partitions, in the order of the crash rule.
`retrying_sink`         calls of the warehouse, retried until accepted; sink_outage: how long, and catching up.
`memory_bounds`         how much a worker may hold in memory.
`lag, sequence_gaps`    gauges and reports.
`transport/`            two ways to read the log through Faust.
`usage/`                the job of the usage topic, without Faust.
`kafka_admin`           topics and committed offsets.
"""
