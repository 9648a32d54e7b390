-- Access: internal
-- Keeps the prices of today for one step of a period.
INSERT INTO closed_prices (period, step, kind, cluster, valid_from, valid_to, value, currency, source)
SELECT {closed_period:String}, {closed_step:UInt32}, kind, cluster, valid_from, valid_to, value, currency, source
FROM prices FINAL
