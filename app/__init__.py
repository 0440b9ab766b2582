"""Prediction of handwritten digits in pictures: a command line program and a local web page.

The stages of the pipeline do not import this package.
"""

import os
from pathlib import Path

# Default model: the one of this checkout, whatever the working directory is.
MODEL = Path(os.path.relpath(Path(__file__).parents[1] / "models/handwritten_digit.h5"))
