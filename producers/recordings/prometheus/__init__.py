"""History of GPUs out of Prometheus, Thanos, Mimir or VictoriaMetrics.

Read in this order: `range_query` (one question over HTTP), `samples` (series of a chunk to one row for each GPU and
moment), `download` (chunk by chunk to disk), `recording` (rows to intervals to events).
"""
