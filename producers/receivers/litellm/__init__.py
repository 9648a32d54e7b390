"""The route of LiteLLM's generic_api callback."""
