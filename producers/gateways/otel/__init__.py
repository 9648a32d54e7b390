"""OpenTelemetry: requests from spans on a Kafka topic."""
