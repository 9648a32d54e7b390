"""Chargeback: where energy becomes money. No other folder computes the cost of energy.

`warehouse/usage/sessions.py` adds that cost, from `pricing.ClusterPrices`, to what a session spent elsewhere.

Money is facility energy times tariff: energy_uj x PUE x price per kWh, with the prices that are valid at the start of
the energy's window, a cluster's own before those of `*`. The same rule is computed in three places:

* `chargeback.sql`, for bills: millions of rows, summed per group, cluster and span without a price change, then priced.
* `pricing.ClusterPrices`, for the few thousand parts of an agent's session. Each part has its own time and cluster, so
  there is nothing to sum in SQL first.
* `pricing.price_energy`, for one charge explained: Decimal, to twelve places, without the rounding of a bill.

The first two are exact integers until one rounding to millionths of the currency, by largest remainder. A property test
(tests/warehouse/chargeback/test_matches_scalar_bill.py) prices the same rows both ways, and by a third, scalar way.

`chargeback_queries` reads bills, `series` their values over time; `dimensions` and `rollups` fill in the SQL.
"""
