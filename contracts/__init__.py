"""What every room shares: event types, units, ledger rows, topics, settings, errors. No I/O.

Read in this order: `units`, `topics`, `events`, `codec`, `rows`, `settings`, `errors`.
"""
