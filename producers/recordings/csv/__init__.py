"""The user's own CSV files."""
