"""Puts the 10,000 test digits through a harsh round trip, and reads them back as pictures.

    python -m benchmarks.round_trip

Each digit is scaled x7 with smoothing, inverted to dark on light, shifted at random in a larger
frame, lit by a gradient in a random direction, and compressed as JPEG at quality 60. Then the
preparation of `app.predict` makes an image of it again. Exit status 1 where that costs more
than LIMIT percentage points.
"""

import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.digits import digits
from app.grey import read_grey
from stages.data.arrays import load_split
from stages.edges.bad_input import BadInput, explained, no_arguments
from stages.edges.progress import Progress
from stages.training.network import load_network
from stages.training.prediction import predictor
from stages.training.repeatable import set_threads

RAW = Path("data/raw")
MODEL = Path("models/handwritten_digit.h5")
LIMIT = 1.0
SIDE = 28 * 7
HEIGHT, WIDTH = 300, 340
# Levels of 255 between the lightest and the darkest corner.
GRADIENT = 90


def main() -> int:
    x, y = load_split(RAW, "test", "uint8")  # (n, 28, 28), (n,)
    set_threads()
    network, scaling = load_network(MODEL)
    predict = predictor(network)
    chance = np.random.default_rng(seed=0)

    images = np.zeros_like(x)
    lost = np.zeros(len(x), dtype=bool)  # taken for several digits, or for none
    with Progress("round trip", len(x), " digits") as progress:
        for place, image in enumerate(x):
            progress.advance(1)
            try:
                found = digits(read_grey(io.BytesIO(photographed(image, chance))))
            except BadInput:
                lost[place] = True
                continue
            lost[place] = len(found) > 1
            images[place] = found[0].image

    direct, after = (
        100 * np.mean(without | (predict(scaling(each)).argmax(1) != y))
        for each, without in ((x, False), (images, lost))
    )
    print(f"direct {direct:.2f}%, after the round trip {after:.2f}%: {after - direct:+.2f} points")
    return bool(after - direct > LIMIT)


def photographed(image: npt.NDArray[np.uint8], chance: np.random.Generator) -> bytes:
    """The round trip's picture of a digit, as a JPEG file.

    Args:
        image: uint8 of shape (28, 28), ink towards 255.
        chance: decides the place in the frame and the direction of the light.
    """
    large = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    top, left = chance.integers(HEIGHT - SIDE + 1), chance.integers(WIDTH - SIDE + 1)
    picture = np.full((HEIGHT, WIDTH), 255.0)
    picture[top : top + SIDE, left : left + SIDE] -= np.asarray(large)

    angle = chance.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    slope = np.cos(angle) * x + np.sin(angle) * y
    shade = (slope - slope.min()) / np.ptp(slope)  # 0 to 1
    picture = np.clip(picture - GRADIENT * shade, 0, 255)

    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "JPEG", quality=60)
    return file.getvalue()


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        sys.exit(main())
