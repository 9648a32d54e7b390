"""HTTP client: errors that say what to do."""

from __future__ import annotations

import pytest

from contracts.errors import Unavailable
from producers.common.http_client import Pages
from tests.support.http_server import Response, serving


def test_https_to_a_server_of_http_is_named() -> None:
    match = r"does not speak https\. .* http://"
    with serving(lambda _: Response(200, b"")) as url, Pages() as pages, pytest.raises(Unavailable, match=match):
        pages.text(url.replace("http://", "https://"))


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "`bearer`"), (403, "`bearer`"), (302, "leads elsewhere"), (404, "the address"), (503, "address")],
)
def test_a_status_has_a_hint_of_its_own(status: int, hint: str) -> None:
    with serving(lambda _: Response(status, b"")) as url, Pages() as pages, pytest.raises(Unavailable) as caught:
        pages.text(url)
    assert f"answers {status}" in caught.value.problem and hint in caught.value.hint
