"""Meters beside energy and tokens, and agents' sessions, which combine all of them."""
