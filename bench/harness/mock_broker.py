"""librdkafka's in-process broker as a program: prints its address, and ends when its stdin does."""

from __future__ import annotations

import sys

from confluent_kafka import Producer


def main() -> None:
    owner = Producer({"bootstrap.servers": "embedded:1", "test.mock.num.brokers": 1, "log_level": 0})
    host = next(iter(owner.list_topics(timeout=10).brokers.values()))
    print(f"{host.host}:{host.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
