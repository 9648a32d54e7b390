"""The tables that people edit: prices, tenants, clusters, and the floors and weights that attribution uses.

Validity is half-open, `[valid_from_ms, valid_to_ms)`, by event time. Nothing in these tables is measured or learned. A
change of a floor or a weight under a past `valid_from_ms` changes what a replay of that time gives: put a new version
that is valid from now on.
"""
