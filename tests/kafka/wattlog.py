"""`python -m tests.kafka.wattlog ARGS` is `wattlog ARGS` with this interpreter, wherever it is installed."""

from __future__ import annotations

from cli.main import main

if __name__ == "__main__":
    main()
