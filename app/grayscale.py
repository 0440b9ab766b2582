"""Reading of picture files as grayscale arrays of limited size."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from app.array_types import Float32, UInt8
from stages.common.errors import UserError

# Decoding 100 megapixels takes up to 400 MB. Phones' photos have fewer.
MAX_PIXELS = 100_000_000
# A digit of a tenth of this side still has 100 pixels, five times those of the 20x20 box.
MAX_SIDE_PX = 1_000
STRIP_HEIGHT_PX = 50  # of the reduced picture
EXIF_ORIENTATION = 0x0112  # number of the EXIF tag
# Grey levels. If the opaque pixels vary less, the transparency contains the drawing.
MIN_OPAQUE_DEVIATION = 8


def read_grayscale(file: Path | BinaryIO) -> UInt8:
    """Reads a picture file as a viewer shows it: upright, without transparency.

    Args:
        file: any format of Pillow, except EPS: colour or grey, 1, 8, 16 or 32 bits, with or without
            palette, transparency and EXIF orientation. Of an animation, the first frame is read.

    Returns:
        Luminance, uint8 of shape (h, w), each side from 1 to MAX_SIDE_PX. Larger pictures are
        reduced by averaging. Pixels with more than 8 bits are scaled from their range to 0..255.

    Raises:
        UserError: the file is not a picture, is damaged, or has more than MAX_PIXELS pixels.
        OSError: the file cannot be opened.
    """
    # Pillow warns of large pictures, which are checked here, and of unknown TIFF tags.
    with warnings.catch_warnings(action="ignore"):
        try:
            Image.init()
            # An EPS file is a PostScript program, which Pillow executes with Ghostscript.
            image = Image.open(file, formats=[name for name in Image.OPEN if name != "EPS"])
        except Image.DecompressionBombError:
            raise too_large() from None
        except OSError as problem:
            if problem.errno is not None:
                raise
            raise UserError("not a picture in any format that Pillow reads") from None
        except Exception as problem:
            raise damaged(problem) from None
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise too_large()
            try:
                return to_grayscale(image)
            except Exception as problem:  # decoders raise exceptions of any class
                raise damaged(problem) from None


def too_large() -> UserError:
    return UserError(f"more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller")


def damaged(problem: Exception) -> UserError:
    return UserError(f"the picture is damaged ({' '.join(str(problem).split())})")


def to_grayscale(image: Image.Image) -> UInt8:
    """Luminance of an opened picture; see `read_grayscale`."""
    image.draft("L", (MAX_SIDE_PX, MAX_SIDE_PX))  # decodes a large JPEG at 1/2, 1/4 or 1/8
    is_deep = image.mode[0] in "IF"  # I;16, I and F have 16 bits and more
    if is_deep:
        mode = "F"
    elif image.has_transparency_data:
        mode = "RGBA"
    else:
        mode = "RGB" if image.mode in "1P" else image.mode
    small = reduce(image, mode, -(-max(image.size) // MAX_SIDE_PX))
    small.getexif()[EXIF_ORIENTATION] = image.getexif().get(EXIF_ORIENTATION, 1)
    ImageOps.exif_transpose(small, in_place=True)

    if is_deep:
        return scale_to_8_bits(np.asarray(small))
    if small.mode == "RGBA":
        luminance, alpha = small.convert("LA").split()
        return composite(np.asarray(luminance), np.asarray(alpha))
    return np.asarray(small.convert("L"))


def reduce(image: Image.Image, mode: str, factor: int) -> Image.Image:
    """Converts a picture to a mode and averages over squares of `factor` pixels a side.

    It works in strips: the whole picture converted at once would take several times the memory.
    """
    height = STRIP_HEIGHT_PX * factor
    strips = [
        image.crop((0, top, image.width, min(top + height, image.height)))
        .convert(mode)
        .reduce(factor)
        for top in range(0, image.height, height)
    ]
    small = Image.new(mode, (strips[0].width, sum(strip.height for strip in strips)))
    for index, strip in enumerate(strips):
        small.paste(strip, (0, STRIP_HEIGHT_PX * index))
    return small


def scale_to_8_bits(pixels: Float32) -> UInt8:
    """Scales pixels of any range to 0..255; NaN and infinities count as 0."""
    finite = np.nan_to_num(pixels.astype(np.float64), posinf=0, neginf=0)
    low, high = finite.min(), finite.max()
    levels = (finite - low) / max(high - low, 1e-300) * 255
    return np.asarray(levels, dtype=np.uint8)


def composite(luminance: UInt8, alpha: UInt8) -> UInt8:
    """Lays a picture with transparency on a background of one grey level.

    If most of the picture is opaque, such as a photo with round corners, the level is the median of
    the opaque pixels. If only strokes are opaque, it is white for dark and black for light strokes.

    Args:
        luminance: uint8 of shape (h, w).
        alpha: uint8 of shape (h, w), 255 where the picture is opaque.

    Returns:
        uint8 of shape (h, w).
    """
    if alpha.min() == 255:
        return luminance
    opacity = alpha / 255
    if not opacity.any():
        return np.full_like(luminance, 255)
    mean = np.average(luminance, weights=opacity)
    deviation = np.sqrt(np.average((luminance - mean) ** 2, weights=opacity))
    if opacity.mean() < 0.5 or deviation < MIN_OPAQUE_DEVIATION:
        background = 255.0 if mean < 128 else 0.0
    else:
        background = float(np.median(luminance[alpha >= 128]))
    return np.rint(background + (luminance - background) * opacity).astype(np.uint8)
