"""The route of OTLP's traces."""
