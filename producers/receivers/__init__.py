"""Receivers of events over HTTP: `wattlog produce http`.

Each folder is a route: `cloudevents`, `otlp`, `litellm`. `producers.runtime.receiver` is the server around them.
"""
