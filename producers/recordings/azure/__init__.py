"""Azure's LLM inference traces."""
