"""Data sets: their download, files, split and scaling."""
