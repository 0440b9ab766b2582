"""What else `make` runs: single runs of the pipeline elsewhere, and the checks before a run."""
