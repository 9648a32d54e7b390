"""The data dictionary has the comments of columns of the engine; the saved questions have their page."""

from __future__ import annotations

from tests.project import saved_questions_page
from tests.project.data_dictionary import PAGE, VIEWS, page
from warehouse.ad_hoc.views import SHARED_VIEWS, TENANT_VIEWS, declared_columns
from warehouse.client import Warehouse


def test_the_data_dictionary_is_the_warehouses(warehouse: Warehouse) -> None:
    assert PAGE.read_text("utf-8") == page(warehouse), "run: python -m tests.project.data_dictionary"


def test_every_view_with_declared_columns_is_in_the_dictionary_and_for_tenants() -> None:
    assert VIEWS.keys() == declared_columns().keys() == {*TENANT_VIEWS, *SHARED_VIEWS} - {"requests"}


def test_the_page_of_saved_questions_has_their_text() -> None:
    text = saved_questions_page.page()
    assert saved_questions_page.PAGE.read_text("utf-8") == text, "run: python -m tests.project.saved_questions_page"
