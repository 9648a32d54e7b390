"""Inference servers' own counters, read from their `/metrics` pages: tokens without a change to the server.

To add a server, write one small file here with a `PROVIDER` and name it in `known.py`: a `Names` where single samples
say everything (see `vllm.py`), else anything with the methods of `InferenceMetricsProvider`. A server that nobody has
written a file for is read by a `Names` from the configuration.
"""
