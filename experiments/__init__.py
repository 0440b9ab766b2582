"""Runs of the pipeline in temporary clones: quickstart, reader, verify, study; and comparisons.

They call DVC and git as commands. The stages import nothing from here.
"""
