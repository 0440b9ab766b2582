"""Grid search over epochs and widths with several seeds, locally or on a Ray cluster."""
