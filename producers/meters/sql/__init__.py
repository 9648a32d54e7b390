"""Meters by SQL, from PostgreSQL or ClickHouse."""
