"""The network and its training: Keras on TensorFlow, set up to give the same bits everywhere."""
