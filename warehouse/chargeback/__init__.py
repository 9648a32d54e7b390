"""Chargeback: the one place where a row becomes money.

Money is facility energy times tariff: energy_uj x PUE x price per kWh, with the prices that are valid at the start of
the energy's hour, a cluster's own before those of `*`. It is computed in one of two ways, by the same rule:

* `chargeback.sql`, for bills: millions of rows, summed per group, cluster and span without a price change, then priced.
* `pricing.py`, for a few thousand parts: an agent's session by step (`PriceBook`), and one charge explained
  (`price_energy`). Each part has its own hour and cluster, so there is nothing to sum in SQL first.

Both are exact integers until one rounding to millionths of the currency, by largest remainder. A property test
(tests/warehouse/chargeback/test_matches_scalar_bill.py) prices the same rows both ways, and by a third, scalar way.

`chargeback_queries` reads bills, `series` their values over time; `dimensions` and `rollups` fill in the SQL.
"""
