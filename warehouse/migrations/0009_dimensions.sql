-- What tokens were used for (contracts.events.DIMENSIONS): empty where it is unknown, or where the ledger does not keep
-- the dimension (setting ledger_dimensions). Each value has rows of its own, so the columns join the sort keys. The
-- primary keys stay as they are.
ALTER TABLE token_usage
    ADD COLUMN IF NOT EXISTS user String AFTER model,
    ADD COLUMN IF NOT EXISTS application LowCardinality(String) AFTER user,
    ADD COLUMN IF NOT EXISTS feature LowCardinality(String) AFTER application,
    ADD COLUMN IF NOT EXISTS provider LowCardinality(String) AFTER feature,
    ADD COLUMN IF NOT EXISTS region LowCardinality(String) AFTER provider,
    ADD COLUMN IF NOT EXISTS endpoint LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS priority LowCardinality(String) AFTER endpoint,
    ADD COLUMN IF NOT EXISTS sender LowCardinality(String) AFTER priority,
    MODIFY ORDER BY (window_start, cluster, workload, tenant, model, late_id, user, application, feature, provider, region, endpoint, priority, sender);

ALTER TABLE request_energy
    ADD COLUMN IF NOT EXISTS user String AFTER trace_id,
    ADD COLUMN IF NOT EXISTS application LowCardinality(String) AFTER user,
    ADD COLUMN IF NOT EXISTS feature LowCardinality(String) AFTER application,
    ADD COLUMN IF NOT EXISTS provider LowCardinality(String) AFTER feature,
    ADD COLUMN IF NOT EXISTS region LowCardinality(String) AFTER provider,
    ADD COLUMN IF NOT EXISTS endpoint LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS priority LowCardinality(String) AFTER endpoint,
    ADD COLUMN IF NOT EXISTS sender LowCardinality(String) AFTER priority,
    MODIFY ORDER BY (window_start, tenant, cluster, workload, request_id, t_end, model, late_id, user, application, feature, provider, region, endpoint, priority, sender);

ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS user String AFTER tenant,
    ADD COLUMN IF NOT EXISTS application LowCardinality(String) AFTER user,
    ADD COLUMN IF NOT EXISTS feature LowCardinality(String) AFTER application,
    ADD COLUMN IF NOT EXISTS provider LowCardinality(String) AFTER feature,
    ADD COLUMN IF NOT EXISTS region LowCardinality(String) AFTER provider,
    ADD COLUMN IF NOT EXISTS endpoint LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS priority LowCardinality(String) AFTER endpoint,
    ADD COLUMN IF NOT EXISTS sender LowCardinality(String) AFTER priority,
    MODIFY ORDER BY (toStartOfTenMinutes(window_start), tenant, cluster, workload, model, hardware, toUnixTimestamp64Milli(window_start), user, application, feature, provider, region, endpoint, priority, sender);

ALTER TABLE ledger_hour
    ADD COLUMN IF NOT EXISTS user String AFTER tenant,
    ADD COLUMN IF NOT EXISTS application LowCardinality(String) AFTER user,
    ADD COLUMN IF NOT EXISTS feature LowCardinality(String) AFTER application,
    ADD COLUMN IF NOT EXISTS provider LowCardinality(String) AFTER feature,
    ADD COLUMN IF NOT EXISTS region LowCardinality(String) AFTER provider,
    ADD COLUMN IF NOT EXISTS endpoint LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS priority LowCardinality(String) AFTER endpoint,
    ADD COLUMN IF NOT EXISTS sender LowCardinality(String) AFTER priority,
    MODIFY ORDER BY (tenant, cluster, workload, model, hardware, hour, user, application, feature, provider, region, endpoint, priority, sender);

ALTER TABLE ledger_day
    ADD COLUMN IF NOT EXISTS user String AFTER tenant,
    ADD COLUMN IF NOT EXISTS application LowCardinality(String) AFTER user,
    ADD COLUMN IF NOT EXISTS feature LowCardinality(String) AFTER application,
    ADD COLUMN IF NOT EXISTS provider LowCardinality(String) AFTER feature,
    ADD COLUMN IF NOT EXISTS region LowCardinality(String) AFTER provider,
    ADD COLUMN IF NOT EXISTS endpoint LowCardinality(String) AFTER region,
    ADD COLUMN IF NOT EXISTS priority LowCardinality(String) AFTER endpoint,
    ADD COLUMN IF NOT EXISTS sender LowCardinality(String) AFTER priority,
    MODIFY ORDER BY (tenant, cluster, workload, model, hardware, day, user, application, feature, provider, region, endpoint, priority, sender);

CREATE OR REPLACE VIEW requests AS
SELECT
    tenant, cluster, workload, model, request_id, session_id, trace_id,
    user, application, feature, provider, region, endpoint, priority, sender, status, t_start, t_end,
    sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens, sum(completion_tokens) AS completion_tokens,
    sum(cache_write_tokens) AS cache_write_tokens, sum(audio_prompt_tokens) AS audio_prompt_tokens,
    sum(image_prompt_tokens) AS image_prompt_tokens, sum(estimated_prompt_tokens) AS estimated_prompt_tokens,
    sum(reasoning_tokens) AS reasoning_tokens, sum(accepted_prediction_tokens) AS accepted_prediction_tokens,
    sum(rejected_prediction_tokens) AS rejected_prediction_tokens, sum(audio_completion_tokens) AS audio_completion_tokens,
    sum(image_completion_tokens) AS image_completion_tokens, sum(estimated_completion_tokens) AS estimated_completion_tokens,
    sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj,
    uniqExact(window_start) AS windows
FROM request_energy FINAL
GROUP BY tenant, cluster, workload, model, request_id, session_id, trace_id,
    user, application, feature, provider, region, endpoint, priority, sender, status, t_start, t_end;
