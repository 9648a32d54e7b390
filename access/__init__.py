"""Access: who a caller is, by API key or token; keys; the audit log."""
