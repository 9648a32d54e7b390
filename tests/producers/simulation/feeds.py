"""`wattlog produce simulated` is fed nothing."""

FEEDS = {"simulated": "its events follow from its seed alone: it reads no file, and opens no connection"}
