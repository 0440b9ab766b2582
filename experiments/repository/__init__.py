"""The project's git and DVC repository: child processes, temporary clones and experiments."""
