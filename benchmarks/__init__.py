"""What measured the figures in README.md and docs/: each prints a table. None is a timed test."""
