"""Paths, parameters and response fields of the API match the pinned shape. Additions are allowed."""

from __future__ import annotations

from fastapi.testclient import TestClient

from tests.api.openapi_shape import PINNED, shape


def test_no_path_parameter_or_field_of_the_api_is_removed_or_changed(client: TestClient) -> None:
    current = set(shape(client.get("/openapi.json").json()))
    missing = [line for line in PINNED.read_text().splitlines() if line not in current]
    assert not missing
