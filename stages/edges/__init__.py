"""Where a stage meets the outside: people, the file system, signals.

How parameters are read, what a person reads when something is wrong, how progress is shown, and
outputs that appear whole or not at all. Nothing here knows of images or networks.
"""
