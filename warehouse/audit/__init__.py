"""The audit of stored rows: conservation of joules, tokens and requests, and completeness (`conservation.audit`)."""
