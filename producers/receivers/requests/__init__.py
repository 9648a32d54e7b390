"""The route of plain requests."""
