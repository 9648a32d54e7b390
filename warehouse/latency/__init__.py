"""Latencies of requests, from histograms that the ledger adds up exactly."""
