"""Child process that runs one ad-hoc question over copies of the rows that its caller may read.

It begins with an empty environment and no open files but its pipes. Before it loads the engine, it gives rights away.
The operating system then bounds its memory, CPU time, files and their size. The kernel (`landlock`) lets it open
nothing but its folder and the code that it runs. The task comes on stdin and the answer goes to stdout, each as one
JSON object.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from warehouse.ad_hoc.gate import EngineError, Question, RefusalError, judge
from warehouse.ad_hoc.landlock import confine

_CODE = re.compile(r"Code: (\d+)\.")
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_LIMITS_OF_ENGINE = {"max_memory_usage": "memory_bytes", "max_execution_time": "timeout_s"}
_LIMITS_OF_ANSWERS = {"max_result_rows": "limit_rows", "max_result_bytes": "limit_bytes"}
_SETTINGS: dict[str, str | int] = {
    "session_timezone": "UTC", "do_not_merge_across_partitions_select_final": 1, "result_overflow_mode": "throw",
    "max_threads": 2, "allow_introspection_functions": 0, "allow_ddl": 0, "max_parser_depth": 300,
    "max_query_size": 1_000_000, "max_ast_elements": 50_000, "max_expanded_ast_elements": 200_000,
    "output_format_json_quote_64bit_integers": 0, "output_format_json_quote_decimals": 1,
    "output_format_json_quote_denormals": 1, "output_format_json_validate_utf8": 1, "date_time_output_format": "iso",
    "output_format_decimal_trailing_zeros": 1, "output_format_write_statistics": 0,
}  # fmt: skip


def main() -> None:
    """Read the task, confine this process, answer, and end without the engine's own farewell."""
    task = json.loads(sys.stdin.buffer.read())
    confine_to(task["folder"], task["limits"])
    sys.stdout.buffer.write(json.dumps(_answer(task)).encode("utf-8", "replace"))
    sys.stdout.flush()
    os._exit(0)


def confine_to(folder: str, limits: dict[str, int]) -> bool:
    """Confine this process to a folder and to limits. Returns whether the kernel keeps it from other files.

    The operating system bounds address space, CPU time, size and number of files; no core dump.
    """
    os.environ["TMPDIR"] = folder
    bounds = {
        resource.RLIMIT_AS: limits["address_space_bytes"], resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_FSIZE: limits["file_bytes"], resource.RLIMIT_NOFILE: limits["files"], resource.RLIMIT_CORE: 0,
    }  # fmt: skip
    for name, bound in bounds.items():
        hard = resource.getrlimit(name)[1]
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(name, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return confine([*_code_folders(), f"/proc/{os.getpid()}", "/sys/fs/cgroup"], [folder])


def _code_folders() -> list[str]:
    """Return the folders of Python's library, of installed packages, and of the system's libraries."""
    root = Path(__file__).resolve().parents[2]
    imports = [p for p in sys.path if p and Path(p).is_absolute() and Path(p).resolve() != root]
    return [*imports, f"{sys.prefix}/lib", f"{sys.base_prefix}/lib", *_SYSTEM_LIBRARIES]


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    limits = {name: task["limits"][limit] for name, limit in _LIMITS_OF_ENGINE.items()}
    bounds = {name: task["limits"][limit] for name, limit in _LIMITS_OF_ANSWERS.items()}
    try:
        loader = _Handle(task, {"session_timezone": "UTC", "max_partitions_per_insert_block": 0})
        for statement in task["statements"]:
            loader.run(statement)
        judging = _Handle(task, {**_SETTINGS, **limits, "readonly": 1})
        answering = _Handle(task, {**_SETTINGS, **limits, **bounds, "readonly": 1})
    except EngineError as error:
        return {"fault": str(error)}
    try:
        return answering.answer(judge(task["sql"], task["database"], judging.lines))
    except RefusalError as refusal:
        return {"refusal": str(refusal)}
    except EngineError as error:
        return {"error": str(error).replace(task["folder"], "..."), "code": error.code}


class _Handle:
    """One chdb handle on the child's engine, with settings of its own. `readonly`, the last, locks them."""

    def __init__(self, task: dict[str, Any], settings: dict[str, Any]) -> None:
        import chdb

        self._handle = chdb.connect(f"{task['folder']}/engine")
        self.run(f"CREATE DATABASE IF NOT EXISTS `{task['database']}`")
        self.run(f"USE `{task['database']}`")
        for name, value in settings.items():
            self.run(f"SET {name} = '{value}'")

    def run(self, sql: str, format_: str = "Null") -> bytes:
        try:
            return self._handle.query(sql, format_).bytes() or b""
        except Exception as error:  # chdb raises errors of several types
            code = _CODE.search(str(error))
            raise EngineError(str(error), int(code[1]) if code else None) from None

    def lines(self, sql: str) -> list[str]:
        """Return one column of text. Each line of JSON is one row, whatever the text has in it."""
        return [json.loads(line)[0] for line in self.run(sql, "JSONCompactEachRow").splitlines()]

    def answer(self, question: Question) -> dict[str, Any]:
        if question.explain:
            explanation = self.lines(question.explain + question.text)
            return {"columns": ["explain"], "types": ["String"], "rows": [[line] for line in explanation]}
        answer = json.loads(self.run(question.text, "JSONCompact"))
        meta = answer["meta"]
        return {"columns": [c["name"] for c in meta], "types": [c["type"] for c in meta], "rows": answer["data"]}
