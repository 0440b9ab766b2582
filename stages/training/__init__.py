"""What trains the network, and what a training leaves behind.

The network, the compiled epoch that trains it, what happens after each epoch, and the set-up of
TensorFlow that makes it repeatable. Nothing here knows of data sets, nor of the pipeline but in
what it tells a person to type.
"""
