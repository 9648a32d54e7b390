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
