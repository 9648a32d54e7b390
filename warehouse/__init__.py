"""Ledger to tables to answers: migrations, an idempotent sink, typed reads. The same over chdb and a ClickHouse server.

Start at `client.connect`; then `migrate.migrate`, `sink.Sink`, `reads`, `audit.audit`.
"""
