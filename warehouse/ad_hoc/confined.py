"""Runs a question of the embedded engine in a child process, over copies of the rows that its caller may read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import BadQuery, Unavailable
from warehouse.ad_hoc.answers import Answer, Bounds, engine_message, rows_of
from warehouse.ad_hoc.copies import copy_tables

if TYPE_CHECKING:
    from warehouse.reader import LedgerReader

MEMORY_BYTES = 2 * 2**30
"""Memory that the engine gives one question."""
ADDRESS_SPACE_BYTES = 8 * 2**30
"""Address space of a child: its code and idle engine take 2 GiB of it."""
FILE_BYTES = 4 * 2**30
FILES = 4096
LOAD_S = 120
"""Time for starting and for loading copies, beside that of the question."""
_ROOT = str(Path(__file__).parents[2])
_START = f"import sys; sys.path.insert(0, {_ROOT!r}); from warehouse.ad_hoc.child import main; main()"


def ask_child(reader: LedgerReader, sql: str, bounds: Bounds) -> Answer:
    """Return the answer to a question over the rows that the reader may see.

    Raises BadQuery for a question that is refused, wrong, too large or too slow, Unavailable when the child fails.
    """
    with tempfile.TemporaryDirectory(prefix="wattlog-sql-") as folder:  # mode 0700
        task = {
            "sql": sql,
            "database": reader.database,
            "folder": folder,
            "statements": copy_tables(reader, sql, Path(folder)),
            "limits": limits(bounds),
        }
        answer = _run(sql, task, bounds)
    if refusal := answer.get("refusal"):
        raise BadQuery("sql", sql, refusal)
    if error := answer.get("error"):
        raise BadQuery("sql", sql, engine_message(error))
    if fault := answer.get("fault"):
        raise Unavailable(f"The question's own engine does not start: {engine_message(fault)}", "Ask again.")
    return Answer(answer["columns"], rows_of(answer["types"], answer["rows"]))


def limits(bounds: Bounds) -> dict[str, int]:
    """Return the limits of a child: of its engine, and of the operating system."""
    return {
        "timeout_s": bounds.timeout_s, "limit_rows": bounds.rows, "limit_bytes": bounds.bytes,
        "memory_bytes": MEMORY_BYTES, "address_space_bytes": ADDRESS_SPACE_BYTES, "file_bytes": FILE_BYTES,
        "files": FILES, "cpu_s": 2 * bounds.timeout_s + LOAD_S,
    }  # fmt: skip


def _run(sql: str, task: dict[str, Any], bounds: Bounds) -> dict[str, Any]:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-c", _START],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={}, cwd=task["folder"], close_fds=True, start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            output, _ = process.communicate(json.dumps(task).encode(), timeout=bounds.timeout_s + LOAD_S)
        except subprocess.TimeoutExpired:
            raise BadQuery("sql", sql, f"it takes longer than {bounds.timeout_s} s: narrow it") from None
        finally:
            process.kill()
    try:
        answer = json.loads(output)
    except ValueError:
        raise BadQuery("sql", sql, "it takes more memory or CPU time than a question may: narrow it") from None
    return dict(answer)
