"""Code that every stage shares: errors, command line, parameters, files and progress."""
