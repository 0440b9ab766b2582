"""Measurements behind the tables in README.md and docs/: one program for each table."""
