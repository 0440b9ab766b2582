"""A picture file, of whatever kind Pillow reads, as grey pixels of a size to work with."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from stages.edges.bad_input import BadInput

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# 100 megapixels cost up to 400 MB for a moment, and only a bomb has more.
MAX_PIXELS = 100_000_000
# A tenth of this side is still enough for a digit, which ends up 20 pixels high.
WORKING_SIDE = 1_000
STRIP = 50  # rows of the reduced picture
ORIENTATION = 0x0112  # the EXIF tag
# Below this standard deviation what is opaque is one colour, and its outline is the picture.
ONE_COLOUR = 8


def read_grey(file: Path | BinaryIO) -> UInt8:
    """Reads a picture file as a person sees it, upright and on paper.

    Args:
        file: colour or grey, 1, 8, 16 or 32 bits, with or without palette, transparency and
            EXIF rotation; the first picture of an animation.

    Returns:
        Luminance, uint8 of shape (h, w), each side from 1 to WORKING_SIDE: larger pictures
        are reduced by averaging. Where a pixel has more than 8 bits, the least becomes 0 and
        the greatest 255.

    Raises:
        BadInput: it is no picture, a damaged one, or one of more than MAX_PIXELS pixels.
        OSError: the file cannot be opened.
    """
    with warnings.catch_warnings(action="ignore"):  # of bombs, about which we judge, and of TIFFs
        try:
            # PostScript is a program that Pillow would have Ghostscript run.
            Image.init()
            image = Image.open(file, formats=[name for name in Image.OPEN if name != "EPS"])
        except Image.DecompressionBombError:
            raise too_large() from None
        except OSError as problem:
            if problem.errno is not None:
                raise
            raise BadInput("not a picture in any format that Pillow reads") from None
        except Exception as problem:
            raise damaged(problem) from None
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise too_large()
            try:
                return grey(image)
            except Exception as problem:  # decoders raise whatever they stumble over
                raise damaged(problem) from None


def too_large() -> BadInput:
    return BadInput(f"more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller")


def damaged(problem: Exception) -> BadInput:
    return BadInput(f"the picture is damaged ({' '.join(str(problem).split())})")


def grey(image: Image.Image) -> UInt8:
    """The luminance of an opened picture; see `read_grey`."""
    image.draft("L", (WORKING_SIDE, WORKING_SIDE))  # a large JPEG is decoded at 1/2, 1/4 or 1/8
    deep = image.mode[0] in "IF"  # I;16, I and F: 16 bits and more
    if deep:
        mode = "F"
    elif image.has_transparency_data:
        mode = "RGBA"
    else:
        mode = "RGB" if image.mode in "1P" else image.mode
    small = reduced(image, mode, -(-max(image.size) // WORKING_SIDE))
    small.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    ImageOps.exif_transpose(small, in_place=True)

    if deep:
        return stretched(np.asarray(small))
    if small.mode == "RGBA":
        luminance, alpha = small.convert("LA").split()
        return on_paper(np.asarray(luminance), np.asarray(alpha))
    return np.asarray(small.convert("L"))


def reduced(image: Image.Image, mode: str, factor: int) -> Image.Image:
    """Converts a picture to a mode and averages over squares, strip by strip to spare memory."""
    height = STRIP * factor
    strips = [
        image.crop((0, top, image.width, min(top + height, image.height)))
        .convert(mode)
        .reduce(factor)
        for top in range(0, image.height, height)
    ]
    small = Image.new(mode, (strips[0].width, sum(strip.height for strip in strips)))
    for place, strip in enumerate(strips):
        small.paste(strip, (0, STRIP * place))
    return small


def stretched(pixels: Floats) -> UInt8:
    """Maps pixels of any range to 0..255; what is no number becomes 0."""
    finite = np.nan_to_num(pixels.astype(np.float64), posinf=0, neginf=0)
    low, high = finite.min(), finite.max()
    levels = (finite - low) / max(high - low, 1e-300) * 255
    return np.asarray(levels, dtype=np.uint8)


def on_paper(luminance: UInt8, alpha: UInt8) -> UInt8:
    """Lays a transparent picture on the paper that it was made for.

    Holes in a picture of paper, such as round corners, are filled with the paper. Ink alone
    is laid on what it stands out from: white, or black where the ink is light.

    Args:
        luminance: uint8 of shape (h, w).
        alpha: uint8 of shape (h, w), 255 where the picture is opaque.
    """
    if alpha.min() == 255:
        return luminance
    opacity = alpha / 255
    if not opacity.any():
        return np.full_like(luminance, 255)
    mean = np.average(luminance, weights=opacity)
    deviation = np.sqrt(np.average((luminance - mean) ** 2, weights=opacity))
    if opacity.mean() < 0.5 or deviation < ONE_COLOUR:
        paper = 255.0 if mean < 128 else 0.0
    else:
        paper = float(np.median(luminance[alpha >= 128]))
    return np.rint(paper + (luminance - paper) * opacity).astype(np.uint8)
