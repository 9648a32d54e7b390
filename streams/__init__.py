"""From the log to the ledger. `core/` is pure: state in, state and results out; `app.py` is the Faust shell."""
