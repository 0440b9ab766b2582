"""Prediction of handwritten digits in pictures: a command line program and a local web page.

The stages of the pipeline do not import this package.
"""

import os
from pathlib import Path

# Default model: the one of this checkout, whatever the working directory is.
MODEL = Path(os.path.relpath(Path(__file__).parents[1] / "models/handwritten_digit.h5"))
# The networks that the app accepts: MNIST's images and digits.
SIDE = 28
IMAGE_SHAPE, CLASSES = (SIDE, SIDE), 10
