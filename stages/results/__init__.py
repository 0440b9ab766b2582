"""What a trained network is worth: scores of its probabilities, and pictures of both.

Functions of arrays and tables; no TensorFlow.
"""
