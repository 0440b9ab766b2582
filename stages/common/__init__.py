"""Code that every stage shares: errors, parameters, files, progress and plots."""
