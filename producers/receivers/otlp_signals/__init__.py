"""The routes of OTLP's metrics and logs."""
