"""The warehouse: tables, an idempotent sink, typed reads and the audit, over chdb or a ClickHouse server.

Start at `client.connect`, then `migrate.migrate`. Workers write through `sink.sink.Sink`. Reads take a
`reader.LedgerReader`: bills in `chargeback` (where energy becomes money), rows under them in `ledger`, other meters and
sessions in `usage`, and `audit`. `reference_data` has the tables that people edit. Each question is an .sql file beside
the module that asks it (`sql_files`).
"""
