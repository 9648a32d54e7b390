"""Requests with a tenant, from gateways and instrumentation in front of the servers.

`deployments` maps requests to workloads, `request_fields` reads a request from JSON, `calls` turns calls into batches.
Each folder is a source: `accesslog`, `litellm`, `otel`.
"""
