"""Rows under a bill: windows, GPUs' intervals, requests, the fleet, and one charge explained."""
