"""Everything about using the model: from a picture of any kind to the digits in it.

How pictures are prepared, what is said of them, the command and the page. It knows the
stages' rooms; none of them knows it.
"""

import os
from pathlib import Path

# The pipeline's, whatever folder it is asked for in.
MODEL = Path(os.path.relpath(Path(__file__).parents[1] / "models/handwritten_digit.h5"))
