"""Options that queries of all kinds share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

COLUMNS = frozenset({"cluster", "workload", "tenant", "session_id", "trace_id", "step"})
"""Fields of a row that a column or label of the result may hold."""


class QueryConfig(BaseModel):
    """One query, and the meter of its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    meter: str = Field(description="Name of the meter.", min_length=1, max_length=253)
    unit: str = Field(description="Its unit, as UCUM writes it: `1`, `By`, `s`, `USD`.", min_length=1, max_length=253)
    query: str = Field(description="The query that runs for each window.", min_length=1)
    every_s: int = Field(60, ge=10, le=86_400, description="Length of a window.")
    offset_s: int = Field(60, ge=0, le=86_400, description="Seconds after the end of a window at which its query runs.")
    cluster: str = Field("", description="Its cluster; empty: the setting `cluster`.")
    workload: str = Field("unassigned", description="Workload of rows that name none.", min_length=1, max_length=253)
    tenant: str = Field("", description="Who pays for rows that name no tenant.")
    columns: dict[str, str] = Field(
        {}, description="Labels or columns that hold cluster, workload, tenant, session_id, trace_id or step."
    )

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        if unknown := columns.keys() - COLUMNS:
            raise ValueError(
                f"{', '.join(sorted(unknown))}: map cluster, workload, tenant, session_id, trace_id or step"
            )
        return columns
