"""The documents' tables of who is trusted: routes by what they need, topics by who writes and reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts import topics
from tests.security.test_access_to_routes import BOOKS, EDIT, FLEET, MONEY, NEEDS, PUBLIC, ROWS, SQL
from tests.support.kafka_acls import kafka_acls

ROOT = Path(__file__).parents[2]
WORDS = {
    "any scope to read": ROWS,
    "`read:finance`, or `read:tenant`": MONEY,
    "`admin` of all tenants, or `read:tenant` of its own": SQL,
    "`read:finance` or `write:reference`, of all tenants": BOOKS,
    "`write:reference` of all tenants": EDIT,
    "`read:fleet` of all tenants": FLEET,
    "nothing": PUBLIC,
}
"""What a route needs, in the words of docs/access.md."""


def rows(file: str, head: str) -> list[list[str]]:
    """Return the cells of the table that begins with a line."""
    lines = (ROOT / file).read_text("utf-8").split(head, 1)[1].splitlines()[2:]
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[: lines.index("")] if "|" in line
    ]


def test_the_page_on_access_has_the_need_of_every_route() -> None:
    stated = {
        (*((method, path) if path else ("GET", method)), WORDS[need])
        for routes, need in rows("docs/access.md", "| routes | need |")
        for method, _, path in (name.partition(" ") for name in re.findall(r"`([^`]+)`", routes))
    }
    needs = {(method, path, need) for (method, path), need in NEEDS.items() if "?" not in path}
    assert stated == needs - {("POST", "/v1/sql", SQL)}  # It is named with its GET.


@pytest.mark.parametrize(("operation", "column"), [("Write", 1), ("Read", 2)])
def test_the_page_on_security_has_who_writes_and_reads_each_topic(operation: str, column: int) -> None:
    table = rows("SECURITY.md", "| topic | written by | read by | a false writer can |")
    stated = {cells[0].strip("`"): set(cells[column].split(", ")) - {"nobody in the cluster"} for cells in table}
    acls = [acl for acl in kafka_acls() if acl.operation == operation and acl.resource == "topic"]
    users = {topic: {a.user.removeprefix("wattlog-") for a in acls if a.name == topic} for topic in topics.ALL}
    assert stated == users
