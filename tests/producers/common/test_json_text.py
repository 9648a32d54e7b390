"""JSON text that is taken apart or repaired, where the decoder refuses it as a whole."""

from __future__ import annotations

import pytest

from contracts.errors import BadInput
from producers.common.json_text import json_elements, repair

DEEP = b"[" * 3_000 + b"]" * 3_000


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        (b"[]", []), (b" [ ] ", []), (b"[1]", [b"1"]), (b'["a,]" , {"b": [1, "}"]}]', [b'"a,]"', b'{"b": [1, "}"]}']),
        (b'["\\"", NaN]', [b'"\\""', b"NaN"]), (b"[1,]", [b"1", b""]), (b"[%s, 2]" % DEEP, [DEEP, b"2"]),
    ],
)  # fmt: skip
def test_an_array_is_split_into_its_elements(text: bytes, elements: list[bytes]) -> None:
    assert list(json_elements(text)) == elements


@pytest.mark.parametrize("text", [b"", b"{}", b"[", b"[1", b"[1]2", b"[}", b'["a', b"[[1]"])
def test_text_that_is_no_array_is_refused(text: bytes) -> None:
    with pytest.raises(BadInput):
        list(json_elements(text))


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        (b'{"a": [[1], "[[", {"b": 2}], "c": 3}', b'{"a": [null, "[[", null], "c": 3}'), (b'{"a": [1]}', b'{"a": [1]}'),
        (b"[[[", b"[[null"), (b'"\\ud800"', b'"\\u0000"'), (b'"\\uDFff\\ud800"', b'"\\u0000\\u0000"'),
        (b'"\\ud83d\\ude00"', b'"\\ud83d\\ude00"'), (b'"\\\\ud800"', b'"\\\\ud800"'),
    ],
)  # fmt: skip
def test_text_is_repaired_where_it_is_nested_too_deeply_or_has_a_lone_surrogate(text: bytes, repaired: bytes) -> None:
    assert repair(text, 2) == repaired
