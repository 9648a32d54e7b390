"""Reads what many items of a body share once: their resource, their scope. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from contracts.errors import BadInput

Content = TypeVar("Content")
Result = TypeVar("Result")


class LastResult(Generic[Content, Result]):
    """The result of `read` for the content that was asked for last, which is known by its identity."""

    def __init__(self, read: Callable[[Content], Result]) -> None:
        self._read = read
        self._last: tuple[Content, Result | None] | None = None
        self._fault = ""
        """Name of the error of the last content, "" for none. An error itself would keep the frames of its reading."""

    def of(self, content: Content) -> Result:
        """Return the result for a content. Raises what `read` raises of it, and of the next items BadInput."""
        if self._last is None or self._last[0] is not content:
            self._last, self._fault = (content, None), ""
            try:
                self._last = content, self._read(content)
            except Exception as error:
                self._fault = type(error).__name__
                raise
        if self._fault:
            raise BadInput("resource or scope", "(as before)", f"cannot be read ({self._fault})")
        return cast(Result, self._last[1])
