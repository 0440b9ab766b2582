"""Reading of picture files as grayscale arrays of limited size."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from app.array_types import Float32, UInt8
from stages.common.errors import UserError

# Decoding 100 megapixels takes up to 400 MB. Phones' JPEG files have up to 200 megapixels, but
# libjpeg decodes these at 1/8 of their size.
MAX_PIXELS = 100_000_000
MAX_REDUCIBLE_PIXELS = 2 * MAX_PIXELS
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow refuses more than twice as many
# A digit of a tenth of this side still has 100 pixels, five times those of the 20x20 box.
MAX_SIDE_PX = 1_000
STRIP_HEIGHT_PX = 50  # of the reduced picture
EXIF_ORIENTATION = 0x0112  # number of the EXIF tag
# Luminance is read unless the colours vary at least this many times as much along another axis.
MIN_COLOUR_TO_LUMINANCE = 3
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")


def read_grayscale(file: Path | BinaryIO) -> UInt8:
    """Reads a picture file as a viewer shows it: upright, without transparency.

    Args:
        file: any format of Pillow, except EPS: colour or grey, 1, 8, 16 or 32 bits, with or without
            palette, transparency and EXIF orientation. Of an animation, the first frame is read.

    Returns:
        Luminance, uint8 of shape (h, w), each side from 1 to MAX_SIDE_PX; or levels along the
        colours' principal axis if their contrast is much larger. Larger pictures are reduced by
        averaging. Pixels with more than 8 bits are scaled from their range to 0..255.

    Raises:
        UserError: the file is not a picture, is damaged, or has more than MAX_PIXELS pixels, or as
            a JPEG file that is not progressive more than MAX_REDUCIBLE_PIXELS.
        OSError: the file cannot be opened.
    """
    # Pillow warns of large pictures, which are checked here, and of unknown TIFF tags.
    with warnings.catch_warnings(action="ignore"):
        try:
            Image.init()
            # An EPS file is a PostScript program, which Pillow executes with Ghostscript.
            formats = [name for name in Image.OPEN if name != "EPS"]
            image = Image.open(without_png_text(file), formats=formats)
        except Image.DecompressionBombError:
            raise too_large() from None
        except OSError as problem:
            if problem.errno is not None:
                raise
            raise UserError("not a picture in any format that Pillow reads") from None
        except Exception as problem:
            raise damaged(problem) from None
        with image:
            # A progressive JPEG file needs memory for all of its pixels.
            is_reducible = image.format == "JPEG" and "progressive" not in image.info
            max_pixels = MAX_REDUCIBLE_PIXELS if is_reducible else MAX_PIXELS
            if image.width * image.height > max_pixels:
                raise too_large()
            try:
                return to_grayscale(image)
            except Exception as problem:  # decoders raise exceptions of any class
                raise damaged(problem) from None


def without_png_text(file: Path | BinaryIO) -> Path | BinaryIO:
    """Returns a PNG file without its text, of which Pillow refuses more than 1 MB; others as is."""
    with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as source:
        source.seek(0)  # as Image.open does
        if source.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return file
        content = source.read()
    kept, start = [PNG_SIGNATURE], 0
    while start < len(content):
        # A chunk: length of its data, 4 bytes; type, 4 bytes; data; checksum, 4 bytes.
        length = int.from_bytes(content[start : start + 4])
        end = start + 12 + length
        if content[start + 4 : start + 8] not in PNG_TEXT:
            kept.append(content[start:end])
        start = end
    return io.BytesIO(b"".join(kept))


def too_large() -> UserError:
    return UserError(f"more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller")


def damaged(problem: Exception) -> UserError:
    return UserError(f"the picture is damaged ({' '.join(str(problem).split())})")


def to_grayscale(image: Image.Image) -> UInt8:
    """Luminance or another axis of colour of an opened picture; see `read_grayscale`."""
    image.draft(None, (MAX_SIDE_PX, MAX_SIDE_PX))  # decodes a large JPEG at 1/2, 1/4 or 1/8
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
    levels = np.asarray(small.convert("L"))
    if mode == "L":
        return levels
    alpha = np.asarray(small.getchannel("A")) if mode == "RGBA" else np.full_like(levels, 255)
    colours = np.asarray(small.convert("RGB"))
    return composite(axis_of_most_contrast(colours, levels, alpha), alpha)


def axis_of_most_contrast(colours: UInt8, luminance: UInt8, alpha: UInt8) -> UInt8:
    """Returns luminance, or levels along the first principal component of the colours.

    Ink and paper of the same luminance, such as red on green, differ along another axis only.

    Args:
        colours: red, green and blue, uint8 of shape (h, w, 3).
        luminance: uint8 of shape (h, w).
        alpha: uint8 of shape (h, w), 255 where the picture is opaque.

    Returns:
        uint8 of shape (h, w).
    """
    opaque = colours[alpha >= 128].astype(np.float32)  # (n, 3)
    if len(opaque) < 2:
        return luminance
    axis = np.linalg.eigh(np.cov(opaque, rowvar=False))[1][:, -1]
    axis *= np.copysign(1, axis.sum()) / np.abs(axis).sum()  # levels span 0 to 255
    levels = colours @ axis.astype(np.float32) - 255 * np.minimum(axis, 0).sum()
    contrast, luminance_contrast = (np.std(each[alpha >= 128]) for each in (levels, luminance))
    if contrast <= MIN_COLOUR_TO_LUMINANCE * luminance_contrast:
        return luminance
    return np.asarray(np.rint(levels), dtype=np.uint8)


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
    """Scales pixels of any range to 0..255.

    A pixel beyond the range of its eight neighbours, such as one that means "no data", is set to
    the end of this range. NaN and infinities count as the median.
    """
    valid = pixels[np.isfinite(pixels)].astype(np.float64)
    median = np.median(valid) if valid.size else 0.0
    finite = np.where(np.isfinite(pixels), pixels, median).astype(np.float64)
    neighbours = np.ones((3, 3), dtype=bool)
    neighbours[1, 1] = False
    finite = np.clip(
        finite,
        ndimage.minimum_filter(finite, footprint=neighbours),
        ndimage.maximum_filter(finite, footprint=neighbours),
    )
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
    if opacity.mean() < 0.5:
        background = 255.0 if mean < 128 else 0.0
    else:
        background = float(np.median(luminance[alpha >= 128]))
    return np.rint(background + (luminance - background) * opacity).astype(np.uint8)
