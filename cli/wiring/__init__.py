"""Wiring of one machine: what runs here, the settings file that reads it, and the lines to add elsewhere."""
