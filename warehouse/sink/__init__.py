"""The stream job's side: fenced, idempotent writes of facts, ledger, hours, days and checkpoints."""
