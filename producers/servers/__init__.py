"""Inference servers' own counters, read from their `/metrics` pages: tokens without a change to the server.

A server is a folder here with a plug-in of kind SERVER: a `token_counters.NamedCounters` where single samples give
every count (see `vllm/`), else anything with the methods of `producers.api.TokenCounters`. A server without a plug-in
is read by a `NamedCounters` from the configuration.

A page becomes a `PageScrape` (`page_scrape`), and two of them the growth of each series (`series_growth`).
`counter_snapshots` believes, holds or refuses it, and `served_rows` has the rows.
"""
