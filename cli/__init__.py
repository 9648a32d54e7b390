"""`wattlog`: the only room that composes the others. The embedded mode lives here."""
