"""Definitions that all packages share: events, units, stored rows, topics, settings and errors. No I/O.

Read in this order: `units`, `topics`, `batch_columns`, `events`, `codec`, `rows`, `settings`, `errors`.
"""
