"""Real client libraries against the real receiver: `python -m tests.clients` (CONTRIBUTING.md)."""
