"""MLPerf inference runs with power."""
