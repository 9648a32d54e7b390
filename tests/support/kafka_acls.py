"""ACLs that k8s/kafka-acls.sh adds, as values."""

from __future__ import annotations

import argparse
import shlex
from typing import NamedTuple

from tests.support.paths import ROOT

SCRIPT = ROOT / "k8s" / "kafka-acls.sh"


class Acl(NamedTuple):
    """Permission of one user for one operation on one topic or group, by its exact name."""

    user: str
    operation: str
    resource: str
    """`topic` or `group`."""
    name: str


def kafka_acls() -> list[Acl]:
    """Return every permission of the script. An option that is not known here ends the program."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("user")
    for option in ("operation", "topic", "group"):
        parser.add_argument(f"--{option}", action="append", default=[])
    calls = [shlex.split(line)[1:] for line in SCRIPT.read_text("utf-8").splitlines() if line.startswith("allow ")]
    return [
        Acl(call.user, operation, resource, name)
        for call in map(parser.parse_args, calls)
        for operation in call.operation
        for resource in ("topic", "group")
        for name in getattr(call, resource)
    ]


def topics_of(user: str, operation: str) -> set[str]:
    """Return the topics on which a user has an operation."""
    return {a.name for a in kafka_acls() if (a.user, a.operation, a.resource) == (user, operation, "topic")}
