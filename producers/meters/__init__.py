"""Any other metered quantity, onto `wattlog.usage.v1`.

`growth` turns counters and levels that stand somewhere into what was used between two looks, `windows` says which
stretches of time are due; both are pure. `cgroups` and `kubelet` look at a node, `prometheus` and `sql` ask a question
for each window.
"""
