"""Evaluation of predicted probabilities: error, calibration and the worst mistakes."""
