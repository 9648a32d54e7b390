"""The example of usage as JSON in docs/producers/README.md is a valid event."""

from __future__ import annotations

import json
import re

from contracts import codec, topics
from contracts.events import UsageBatch
from tests.project.tree import ROOT

PAGE = (ROOT / "docs" / "producers" / "README.md").read_text("utf-8").partition("## Usage as JSON")[2]
EXAMPLE = PAGE.partition("```json\n")[2].partition("```")[0]


def read(text: str) -> UsageBatch:
    headers = codec.envelope(
        type_=topics.USAGE, source="agents.example", id_="1758000000000.0", subject="c1/agents", t_ms=0,
        content_type=codec.JSON,
    )  # fmt: skip
    batch = codec.decode(headers, text.encode()).batch
    assert isinstance(batch, UsageBatch)
    return batch


def test_the_example_is_an_event() -> None:
    batch = read(EXAMPLE)
    assert batch.quantity == ("1", "0.0125", "59.75")
    assert batch.dimensions[2] == {"pod": "chat-0", "node": "n1"}
    assert batch.step == ("search", "search", "")


def test_optional_fields_may_be_left_out() -> None:
    table = PAGE.partition("\n## ")[0]
    optional = {
        name
        for line in table.splitlines()
        if line.startswith("| `") and line.rstrip().split("|")[-2].strip()
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert optional == {"origin", "event_id", "session_id", "trace_id", "step", "dimensions"}
    required = {name: column for name, column in json.loads(EXAMPLE).items() if name not in optional}
    assert len(read(json.dumps(required))) == 3
