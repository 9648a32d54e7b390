"""Refusal of query parameters that a route does not have: a misspelt filter must not answer for the whole fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

MAX_NAMED = 8
"""Parameters that one problem names."""


async def _refuse_unknown(request: Request) -> None:
    """Raise RequestValidationError (422) for unknown query parameters, and for several values where one is read."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = query_parameters(route)
    counts = Counter(name for name, _ in request.query_params.multi_items())
    wrong = {name: _fix(name, known) for name in counts if name not in known}
    wrong |= {name: "give it once" for name, count in counts.items() if count > 1 and not known.get(name, True)}
    if wrong:
        named = list(wrong.items())[:MAX_NAMED]
        raise RequestValidationError([{"loc": ("query", name[:80]), "msg": fix} for name, fix in named])


KNOWN_PARAMETERS = Depends(_refuse_unknown)
"""Dependency of every route: it knows the route's own parameters."""


def query_parameters(route: APIRoute) -> dict[str, bool]:
    """Return the query parameters of a route, and whether each may be given several times."""
    return dict(_parameters(route.dependant))


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        yield field.alias, "list[" in str(field.field_info.annotation)
    for part in dependant.dependencies:
        yield from _parameters(part)


def _fix(name: str, known: dict[str, bool]) -> str:
    nearest = get_close_matches(name.lower(), known, 1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    return f"there is no such parameter; there are {', '.join(sorted(known))}" if known else "this takes no parameters"
