"""Examples of questions in SQL."""

from __future__ import annotations

from typing import Any

COLUMNS: dict[str, Any] = {"rows": [{"table": "ledger", "column": "active_uj", "type": "Int64"}], "next": None}
ANSWER: dict[str, Any] = {"columns": ["model", "uj"], "rows": [["llama-3.1-8b", 782159936]]}
