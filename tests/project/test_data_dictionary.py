"""docs/data-dictionary.md has the comments of the views' columns, as the engine has them."""

from __future__ import annotations

from tests.project.data_dictionary import PAGE, VIEWS, page
from warehouse.ad_hoc.views import SHARED_VIEWS, TENANT_VIEWS, declared_columns
from warehouse.client import Warehouse


def test_the_data_dictionary_is_the_warehouses(warehouse: Warehouse) -> None:
    assert PAGE.read_text("utf-8") == page(warehouse), "run: python -m tests.project.data_dictionary"


def test_every_view_with_declared_columns_is_in_the_dictionary_and_for_tenants() -> None:
    assert VIEWS.keys() == declared_columns().keys() == {*TENANT_VIEWS, *SHARED_VIEWS} - {"requests"}
