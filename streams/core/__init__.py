"""The pure core: state machines and arithmetic without I/O, clock or logging. Modules in the order of the flow:

`decoding`         messages -> events, or the reason why one is rejected.
`sequence`         deduplication of events by sequence number.
`offset_gaps`      gaps in delivered offsets: loss, empty, or not delivered.
`topic_progress`   read positions, event times and the watermark.
`progress`         pending messages and the checkpoint: which offsets may be committed.
`checkpoint`       what a partition remembers across a restart.
`partition`        the state machine of one log partition, made of the above and below.
`time_spread`      amounts over time -> windows, in exact integers.
`apportion`        totals by weights -> parts, in exact integers: largest remainder.
`accumulators`     sums of integers by window and entity.
`windows`          the open windows of a partition: energy and work.
`window_snapshot`  windows as input of the attribution, and as rows.
`request_labels`   ids, times and status of single requests, as blocks of bytes.
`request_pieces`   single requests: their work by window, and their share of a window's joules.
`attribution/`     energy split over tenants: facts -> ledger rows.
`window_tables`    windows as rows of the warehouse.
`stored_keys`      keys of rows in the warehouse, so that rows which are gone are deleted.
`late_facts`       facts for windows that are already final.
`restatement`      late facts into a final window.
`row_versions`     which row wins.
`cardinality`      the workload with most names, for a warning.
`usage_batch`      the usage topic: messages -> rows, and which copy of a row counts.
"""
