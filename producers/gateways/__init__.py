"""Requests with a tenant, from what stands before the servers: gateways and their logs.

`deployments` says which workload served a request, `jsonlines` reads one request of a line, `accesslog` follows a file.
"""
