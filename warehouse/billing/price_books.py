"""Versions of the price book. A book is stored as it was written; the greatest version is the book of today."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from billing.book_file import parse_book
from billing.price_book import PriceBook
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader
from warehouse.results import Time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredBook:
    """One version of the book."""

    book_version: int
    stored_at: Time
    actor: str
    sha256: str
    text: str

    def parse(self) -> PriceBook:
        """Return the book. Raises BadInput if this version of Wattlog no longer believes it."""
        return parse_book(self.text)


def put_book(warehouse: Warehouse, text: str, actor: str, at_ms: int) -> StoredBook:
    """Store a book under the next version. One that equals the newest is not stored again. Raises BadInput."""
    parse_book(text)
    newest = list_books(warehouse)[-1:]
    digest = hashlib.sha256(text.encode()).hexdigest()
    if newest and newest[0].sha256 == digest:
        return newest[0]
    version = newest[0].book_version + 1 if newest else 1
    at = _EPOCH + timedelta(milliseconds=at_ms)
    row = {"book_version": version, "stored_at": at, "actor": actor, "sha256": digest, "text": text}
    warehouse.insert_rows("price_books", [row])
    return list_books(warehouse)[-1]


def list_books(warehouse: Warehouse | LedgerReader) -> list[StoredBook]:
    """Return all versions of the book, the oldest first."""
    return [StoredBook(**row) for row in warehouse.ask("billing/price_books")]


def book_of(warehouse: Warehouse | LedgerReader, version: int | None = None) -> StoredBook | None:
    """Return the book of a version, or the newest; None where there is none."""
    books = list_books(warehouse)
    if version is not None:
        books = [book for book in books if book.book_version == version]
    return books[-1] if books else None
