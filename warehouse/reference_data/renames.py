"""Checks of former names of clusters, and the prices that follow a name.

A price of a cluster is stored under its former names too (`mirrored`), so that readers of rows as they are stored
find it. Lists show it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from contracts.errors import BadInput
from contracts.units import rfc3339
from warehouse.reader import LedgerReader
from warehouse.reference_data.aliases import ClusterAlias
from warehouse.reference_data.changes import Change, Changes, PutRow, put_changes
from warehouse.reference_data.clusters import list_clusters
from warehouse.reference_data.files import Problems
from warehouse.reference_data.parsing import label_of
from warehouse.reference_data.prices import Price
from warehouse.reference_data.tables import ALIASES, PRICES
from warehouse.reference_data.validity import ANY

MAX_COMMON_HOURS = 24
"""Hours in which both names may have rows, as while nodes are renamed one by one."""


def check_aliases(
    reader: LedgerReader, stored: Sequence[ClusterAlias], puts: Sequence[PutRow], problems: Problems
) -> None:
    """Add a problem for each alias of '*', of itself, of an alias, of another simulated mark, or of two clusters."""
    marks = {cluster.cluster: cluster.simulated for cluster in list_clusters(reader)}
    after = {row.alias: row for row in stored} | {put.row.alias: put.row for put in puts}
    targets = {row.cluster for row in after.values()}
    for put in puts:
        row: ClusterAlias = put.row
        with problems.collected():
            label = label_of(ALIASES, put.place, "alias")
            if ANY in (row.alias, row.cluster) or row.alias == row.cluster:
                raise BadInput(label, row.alias, "an alias and its cluster are two names")
            if row.cluster in after:
                raise BadInput(
                    label_of(ALIASES, put.place, "cluster"), row.cluster,
                    f"this is itself a former name, of {after[row.cluster].cluster}: give that",
                )  # fmt: skip
            if row.alias in targets:
                own = ", ".join(sorted(other.alias for other in after.values() if other.cluster == row.alias)[:5])
                raise BadInput(label, row.alias, f"it has former names itself ({own}): give them {row.cluster} first")
            if marks.get(row.alias, False) != marks.get(row.cluster, False):
                raise BadInput(label, row.alias, f"one of it and {row.cluster} is simulated, the other is not")
            (common,) = reader.ask("reference_data/common_hours", alias=row.alias, target=row.cluster)
            if common["hours"] > MAX_COMMON_HOURS:
                raise BadInput(
                    label, row.alias,
                    f"it and {row.cluster} both have rows in {common['hours']} hours, from "
                    f"{rfc3339(common['first_ms'])} to {rfc3339(common['last_ms'])}: these are two clusters",
                )  # fmt: skip


def check_renamed(aliases: Iterable[ClusterAlias], puts: Iterable[PutRow], problems: Problems) -> None:
    """Add a problem for each price of a former name."""
    cluster_of = {row.alias: row.cluster for row in aliases}
    for put in puts:
        if (cluster := cluster_of.get(put.row.cluster)) is not None:
            problems.add(BadInput(
                label_of(PRICES, put.place, "cluster"), put.row.cluster, f"a former name of {cluster}: give that"
            ))  # fmt: skip


def mirrored(aliases: Iterable[ClusterAlias], changes: Changes) -> Changes:
    """Return changes of prices with those that follow for former names."""
    names: dict[str, list[str]] = {}
    for row in aliases:
        names.setdefault(row.cluster, []).append(row.alias)

    def renamed(price: Price | None, alias: str) -> Price | None:
        return None if price is None else replace(price, cluster=alias)

    more = [
        Change(renamed(change.before, alias), renamed(change.after, alias), True)
        for change in changes.changes
        for alias in names.get((change.after or change.before).cluster, ())  # type: ignore[union-attr]
    ]
    return Changes([*changes.changes, *more], changes.unchanged)


def joined_prices(
    aliases: Iterable[ClusterAlias], prices: Sequence[Price], changes: Changes, problems: Problems
) -> Changes:
    """Return the changes of prices that new aliases make: a cluster and all of its names have the prices of both.

    The cluster's own prices go before those of a former name, which end where they begin. Other overlaps are problems.
    """
    by_name: dict[str, list[Price]] = {}
    for price in prices:
        by_name.setdefault(price.cluster, []).append(price)
    names: dict[str, list[str]] = {}
    for row in aliases:
        names.setdefault(row.cluster, []).append(row.alias)
    new: dict[str, list[str]] = {}
    for row in (change.after for change in changes.changes if change.after is not None):
        new.setdefault(row.cluster, []).append(row.alias)
    joined = Changes()
    for cluster, former in new.items():
        book = by_name.get(cluster, [])
        for alias in former:
            book = _both(cluster, book, by_name.get(alias, []), problems)
        for name in dict.fromkeys([cluster, *names.get(cluster, ()), *former]):
            old = {PRICES.key_of(price): price for price in by_name.get(name, ())}
            now = {PRICES.key_of(price): price for price in (replace(price, cluster=name) for price in book)}
            joined.changes += [
                Change(old.get(key), now.get(key), True) for key in {**old, **now} if old.get(key) != now.get(key)
            ]
    return joined


def _both(cluster: str, own: Sequence[Price], former: Sequence[Price], problems: Problems) -> list[Price]:
    """Return a cluster's own prices with those of a former name where it has none."""
    stored = [replace(price, cluster=cluster) for price in former]
    changes = put_changes(PRICES, stored, [PutRow(f"cluster {cluster}", price) for price in own], problems)
    book = {PRICES.key_of(price): price for price in stored}
    for change in changes.changes:
        if change.after is not None:
            book[PRICES.key_of(change.after)] = change.after
        else:
            del book[PRICES.key_of(change.before)]
    return list(book.values())
