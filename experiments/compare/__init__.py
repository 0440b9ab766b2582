"""Comparison of the networks of two revisions, with McNemar's test."""
