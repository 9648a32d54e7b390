"""SQL questions: one file each, beside the module that asks it.

A question is named by folder and file: `ledger/rows` is warehouse/ledger/rows.sql. Its first line declares whose rows
it returns, and so how it may be run:

* `-- Access: tenant`: rows of tenants. Only a `LedgerReader` runs it. It binds `{tenants:Array(String)}` itself, or
  `{tenant:String}` where a question is about one tenant. Each part of a UNION has one of them in a condition
  (`is_narrowed`). No other question may use these parameters.
* `-- Access: operator`: rows of all tenants. Only an operator's `LedgerReader` runs it.
* `-- Access: shared`: no rows of a tenant, but prices, floors, weights, or the ledger's first and last time.
* `-- Access: internal`: rows for workers and for commands beside them. A `LedgerReader` refuses it.

`$tokens{EXPRESSION}` in a file becomes the expression once per column of tokens, separated by commas: `@` is the
column's name and `#` its number from 1. `$tokens{sum(r.@) AS @}` is `sum(r.prompt_tokens) AS prompt_tokens, ...`.
The columns are those of `contracts.events.TokenBatch`. `$dimensions{EXPRESSION}` is the same over its dimensions,
`$latencies{EXPRESSION}` over the histograms of `contracts.histogram`.

`$part{HARDWARE}` is the narrowest boundary that a hardware type's energy is within (`contracts.boundary.part_of`), as
text. `$contains_gpus{HARDWARE}` is the condition of that name there. `$within{HARDWARE}` is the condition that it is
within `{boundary:String}`; empty means all that is measured.

`$cluster{COLUMN}` is the name under which a stored cluster is read, by its aliases. `$cluster_in{COLUMN}` is the
condition that it is `{cluster:String}` or has been, where that is not empty. A `LedgerReader` fills both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from string import Template

from contracts.boundary import HOST, WALL_LESS_GPUS, WALL_PREFIX, Boundary
from contracts.events import DIMENSIONS, TOKENS
from contracts.histogram import LATENCIES

_PART = re.compile(r"\$part\{([^{}]+)\}")
_PART_SQL = (
    rf"multiIf(\1 = '{HOST}', '{Boundary.HOST}', startsWith(\1, '{WALL_PREFIX}'), '{Boundary.WALL}', '{Boundary.GPU}')"
)
_CONTAINS_GPUS = re.compile(r"\$contains_gpus\{([^{}]+)\}")
_CONTAINS_GPUS_SQL = rf"(startsWith(\1, '{WALL_PREFIX}') AND \1 != '{WALL_LESS_GPUS}')"
_WITHIN = re.compile(r"\$within\{([^{}]+)\}")
_WITHIN_SQL = (
    rf"({{boundary:String}} IN ('', '{Boundary.WALL}') OR NOT startsWith(\1, '{WALL_PREFIX}') "
    rf"AND ({{boundary:String}} = '{Boundary.HOST}' OR \1 != '{HOST}'))"
)
_COLUMNS = re.compile(r"\$(tokens|dimensions|latencies)\{([^{}]+)\}")
_LISTS = {"tokens": TOKENS, "dimensions": DIMENSIONS, "latencies": LATENCIES}
_CLUSTER = re.compile(r"\$(cluster(?:_in)?)\{([^{}]+)\}")
_CLUSTER_PART = re.compile(r"\b(wattlog_cluster(?:_in)?)<([^<>]+)>")
_NAME = re.compile(r"[a-z][a-z_]*/[a-z][a-z0-9_]*")
TENANT_PARAMETER, TENANTS_PARAMETER = "{tenant:String}", "{tenants:Array(String)}"
"""Parameters of questions with tenant access: one tenant; several, where none means all."""
_COMMENT = re.compile(r"--[^\n]*")
_HEADER = re.compile(r"-- Access: (tenant|operator|shared|internal)\n")


class Access(StrEnum):
    """The callers for whom a question may run."""

    TENANT = "tenant"
    OPERATOR = "operator"
    SHARED = "shared"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One question: its name, its access and its text without the header."""

    name: str
    access: Access
    text: str

    def render(self, fragments: Mapping[str, str] | None = None) -> str:
        """Return the SQL with its `$name`s filled in: only ever with values from allow-lists in code."""
        return Template(self.text).substitute(fragments) if fragments else self.text


@cache
def sql_file(name: str) -> SqlFile:
    """Return the question `SUBJECT/NAME`.

    Raises KeyError when there is no such file, ValueError when its first line does not declare its access, or when
    a question without tenant access uses the tenant's parameter.
    """
    file = resources.files("warehouse").joinpath(f"{name}.sql")
    if not _NAME.fullmatch(name) or not file.is_file():
        raise KeyError(f"no question {name!r}: there is no warehouse/{name}.sql")
    text = file.read_text(encoding="utf-8")
    header = _HEADER.match(text)
    if header is None:
        raise ValueError(f"warehouse/{name}.sql does not begin with `-- Access: tenant|operator|shared|internal`")
    body = text[header.end() :].strip().rstrip(";")
    for macro, sql in ((_PART, _PART_SQL), (_WITHIN, _WITHIN_SQL), (_CONTAINS_GPUS, _CONTAINS_GPUS_SQL)):
        body = macro.sub(sql, body)
    body = _CLUSTER.sub(r"wattlog_\1<\2>", body)
    question = SqlFile(name, Access(header[1]), _with_columns(body))
    for parameter in (TENANT_PARAMETER, TENANTS_PARAMETER):
        if question.access is not Access.TENANT and parameter in text:
            raise ValueError(f"warehouse/{name}.sql uses {parameter}: declare `-- Access: tenant`")
    return question


def cluster_of(column: str) -> str:
    """Return what stands for `$cluster{COLUMN}` in a fragment of a question."""
    return f"wattlog_cluster<{column}>"


def reads_clusters(sql: str) -> bool:
    """Return True if a rendered question reads clusters by their aliases."""
    return _CLUSTER_PART.search(sql) is not None


def with_clusters(sql: str, *, renamed: bool) -> str:
    """Return a rendered question with its clusters' names: as stored, or where some are `renamed`, as they are read.

    Then it has the parameters `aliases` and `alias_clusters`, and `names` for those of the filter.
    """

    def part(match: re.Match[str]) -> str:
        column = match[2]
        if match[1] == "wattlog_cluster":
            lists = "{aliases:Array(String)}, {alias_clusters:Array(String)}"
            return f"transform({column}, {lists})" if renamed else column
        equal = "IN {names:Array(String)}" if renamed else "= {cluster:String}"
        return f"({{cluster:String}} = '' OR {column} {equal})"

    return _CLUSTER_PART.sub(part, sql)


def is_narrowed(sql: str) -> bool:
    """Return True if SQL has a tenants' parameter in a condition, in each part of a UNION."""
    parts = re.split(r"\bUNION\b", _COMMENT.sub("", sql))
    conditions = f"tenant = {TENANT_PARAMETER}", f"tenant IN {TENANTS_PARAMETER}"
    return all(any(condition in part for condition in conditions) for part in parts)


def _with_columns(text: str) -> str:
    """Return SQL with each `$tokens{EXPRESSION}` and `$dimensions{EXPRESSION}` written out for all of their columns."""
    return _COLUMNS.sub(
        lambda match: ", ".join(
            match[2].replace("@", name).replace("#", str(number)) for number, name in enumerate(_LISTS[match[1]], 1)
        ),
        text,
    )


def sql_files() -> Iterator[SqlFile]:
    """Yield every question, by name."""
    folders = sorted((f for f in resources.files("warehouse").iterdir() if f.is_dir()), key=lambda f: f.name)
    for folder in folders:
        if folder.name == "migrations":
            continue
        for file in sorted(folder.iterdir(), key=lambda f: f.name):
            if file.name.endswith(".sql"):
                yield sql_file(f"{folder.name}/{file.name.removesuffix('.sql')}")
