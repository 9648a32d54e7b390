"""Declarations of the columns of a batch: how each is sent, checked and stored.

`contracts.events.TokenBatch` and `UsageBatch` annotate each of their columns with a `BatchColumn`. That annotation is
the only declaration. The packed and the JSON body, the checks, the amounts of the stream worker's windows, the stored
rows and the column lists in SQL are all made from it.

To add a column of tokens to requests:

1. Declare it in `contracts.events.TokenBatch`, after the other columns, with None as its default.
2. Add it to the tables `token_usage`, `request_energy`, `ledger`, `ledger_hour` and `ledger_day` by a migration.
3. Give it a field in the results that show it (warehouse/results.py, warehouse/usage/sessions.py).
4. Give it a field in `producers.runtime.batching.RequestRow`, and fill that where a gateway reads it.

`tests/contracts/test_a_request_column_is_declared_once.py` makes these edits in a copy and follows the column. An
optional text of single requests is added alike, to the table `request_energy` only.
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
