"""LiteLLM: its callback, and the requests that it writes."""
