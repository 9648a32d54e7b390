"""Meters by PromQL."""
