-- Access: shared
-- All work weights, by model, hardware type and start.
SELECT
    model, hardware, toUnixTimestamp64Milli(valid_from) AS valid_from_ms,
    toUnixTimestamp64Milli(valid_to) AS valid_to_ms, prompt_milli, cached_milli, completion_milli, weights_version, source
FROM work_weights FINAL
ORDER BY model, hardware, valid_from
