"""Meters of quantities other than GPU energy, written to `wattlog.usage.v1`.

`cgroups` and `kubelet` observe a node: `observations` turns the counters and levels of its objects into use.
`prometheus` and `sql` run a query for each window of time: `window_query` turns its results into rows.
"""
