"""Declarations of the columns of a batch: how each is sent, checked and stored.

`contracts.events.TokenBatch` and `UsageBatch` annotate each of their columns with a `BatchColumn`. That annotation is
the only declaration. The packed and the JSON body, the checks, the amounts of the stream worker's windows, the stored
rows and the column lists in SQL are all made from it.

To add a column of tokens to requests:

1. Declare it in `contracts.events.TokenBatch`, after the other columns, with None as its default.
2. Add it to the tables `token_usage`, `request_energy`, `ledger`, `ledger_hour` and `ledger_day` by a migration, AFTER
   the column that was the last of `contracts.events.TOKENS`: schemas have tokens in the order of declaration.
3. Give it a field in each result that has the other tokens (warehouse/results.py, warehouse/usage/sessions.py).
4. Give it a field in `producers.runtime.batching.RequestRow`.

`tests/contracts/test_a_request_column_is_declared_once.py` makes these edits in a copy and follows the column. Until a
source reads a value it is 0 everywhere:

* Gateways read it in producers/gateways/request_fields.py, for spans also in otel/genai.py and for LiteLLM also in
  litellm/payloads.py and litellm/callback.py. Inference servers' counters have names in
  producers/servers/token_counters.py and in each server's plugin.py, and become columns in served_rows.py.
  Recordings and the simulation have readers and makers of their own.
* The total `tokens`, joules per token and `work` count prompt and completion only. A column that is not `part_of` one
  of them is stored and summed, but gets no energy of its own.
* The view `requests` lists columns by hand. A migration replaces it. The ledger's fingerprint has the new column in
  rows where it is not 0. Other ledgers keep their hash.

An optional text of single requests is added alike, to the table `request_energy` only.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal, get_type_hints

Form = Literal["dictionary", "code", "text", "number", "map", "scalar"]
"""Form of a batch's field: a `dictionary` of names, a `code` per row that indexes one, a `text`, a 64-bit `number` or a
`map` of texts per row, or one `scalar` for the whole batch."""
Phase = Literal["", "prompt", "completion"]


@dataclass(frozen=True, kw_only=True)
class BatchColumn:
    """One field of a batch. `name` and `optional` come from the dataclass that it annotates."""

    form: Form
    name: str = ""
    optional: bool = False
    """A message may leave the column out; then each row has the value `absent`."""
    optional_in_json: bool = False
    """A JSON body may leave it out although a packed body may not."""
    absent: int = 0
    """Value of each row of a number column that a message leaves out."""
    dictionary: str = ""
    """Field that a code column indexes."""
    empty: bool = True
    """A text may be empty."""
    payer: bool = False
    """The text names who pays, so names that begin with `__` are refused."""
    dimension: bool = False
    """The ledger can have rows of its own for each value of the text."""
    decimal: bool = False
    """The text is a plain decimal number."""
    phase: Phase = ""
    """Phase of a request during which these tokens are processed. A column with a phase is an additive count of tokens:
    it is spread over windows, summed, divided over hardware, and stored in every table and rollup that has tokens."""
    part_of: str = ""
    """Token column of which this one is a subset."""


def columns_of(batch: type[Any]) -> tuple[BatchColumn, ...]:
    """Return the columns that a batch's dataclass declares, in the order in which packed bodies have them."""
    hints = get_type_hints(batch, include_extras=True)
    columns = []
    for field in fields(batch):
        column = next((m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, BatchColumn)), None)
        if column is not None:
            optional = field.default is not MISSING or field.default_factory is not MISSING
            columns.append(replace(column, name=field.name, optional=optional))
    return tuple(columns)
