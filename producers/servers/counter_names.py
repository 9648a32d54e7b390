"""Names of counters as a plug-in or a configuration gives them, with selectors of labels: parsing and matching. Pure.

A name is `tokens_total`, `tokens_total{kind="input"}` (also `!=`, and `=~` and `!~` with a regular expression that must
match the whole value; an absent label is ""), or a sum of such terms: `hits_total + external_hits_total`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from producers.common.prometheus_text import Labels, PrometheusPage

_MATCHER = r'[a-zA-Z_]\w*\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"'
_TERM = re.compile(rf"\s*([a-zA-Z_:][\w:]*)\s*(?:\{{\s*({_MATCHER}(?:\s*,\s*{_MATCHER})*)?\s*,?\s*\}})?\s*", re.ASCII)
_LABEL = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"', re.ASCII)
_ESCAPE = re.compile(r'\\(["\\])')


class LabelMatcher(NamedTuple):
    """Condition on one label. `pattern` matches the whole value; `must` is False for `!=` and `!~`."""

    label: str
    pattern: re.Pattern[str]
    must: bool


class CounterTerm(NamedTuple):
    """A sample's name, and the conditions under which its samples count."""

    name: str
    matchers: tuple[LabelMatcher, ...]

    def matches(self, labels: Labels) -> bool:
        """Return True if the labels meet every condition."""
        return all((m.pattern.fullmatch(labels.get(m.label, "")) is not None) is m.must for m in self.matchers)


@lru_cache(maxsize=4096)
def parse_name(text: str) -> tuple[CounterTerm, ...]:
    """Return the terms of a name, which are summed. Raises ValueError for another text."""
    terms, position = [], 0
    while True:
        match = _TERM.match(text, position)
        if match is None:
            raise ValueError(f'{text!r} is no name of a counter: write name, or name{{label="value"}}')
        terms.append(CounterTerm(match[1], tuple(_matchers(match[2] or ""))))
        if match.end() == len(text):
            return tuple(terms)
        if text[match.end()] != "+":
            raise ValueError(f"{text!r} is no name of a counter, at {text[match.end() :][:20]!r}")
        position = match.end() + 1


def _matchers(text: str) -> Iterator[LabelMatcher]:
    for label, operator, value in _LABEL.findall(text):
        plain = _ESCAPE.sub(r"\1", value)
        try:
            pattern = re.compile(plain if operator.endswith("~") else re.escape(plain))
        except re.error as error:
            raise ValueError(f"{plain!r} is no regular expression: {error}") from None
        yield LabelMatcher(label, pattern, operator in ("=", "=~"))


def terms_on(page: PrometheusPage, names: Sequence[str]) -> tuple[CounterTerm, ...]:
    """Return the terms of the first name of which a sample, or a malformed line, is on the page; () without one.

    Labels do not decide: a series may appear only at its first count.
    """
    for name in names:
        terms = parse_name(name)
        if any(page.has(term.name) for term in terms):
            return terms
    return ()
