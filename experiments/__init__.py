"""Many trainings and how they compare: the study, on one machine or a cluster, and `make compare`.

It drives the pipeline through DVC's commands and reads what they leave in git; no stage knows it.
"""
