"""The images: which data sets there are, where they come from, how they lie on disk.

Also how they are split and scaled, which the network's users need again. No TensorFlow.
"""
