"""Faults on real Kafka against real worker processes: `python -m tests.kafka.chaos` runs them at length."""
