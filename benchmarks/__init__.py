"""What measured the figures in README.md and docs/, and holds some of them to a goal. No tests."""
