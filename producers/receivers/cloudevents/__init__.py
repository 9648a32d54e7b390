"""The route of OpenMeter's API for CloudEvents."""
