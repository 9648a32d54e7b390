-- A tenant's team and cost centre hold from valid_from until its next row: a move bills the time before it as before.
-- Stored rows hold from the beginning.
ALTER TABLE tenants
    ADD COLUMN IF NOT EXISTS valid_from DateTime64(3, 'UTC') COMMENT 'the team and the cost centre hold from here until the next row of the tenant' AFTER tenant,
    MODIFY ORDER BY (tenant, valid_from);
