"""A gateway's access log, one JSON object per line."""
