"""Event log of one process on disk: what `wattlog up` uses where no Kafka is configured (docs/adr/0014)."""
