"""From a picture file to digits like MNIST's: decoding, foreground and segmentation."""

import contextlib
import io
import itertools
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin
from scipy import ndimage

from app.array_types import UInt8
from app.background import estimate_background
from app.grayscale import MAX_SIDE_PX, composite, read_grayscale
from app.mnist_format import bounding_box, center_by_mass, fit_to_box
from app.segmentation import find_digits, find_rows, is_one_digit
from benchmarks.pictures_without_digits import bricks
from benchmarks.synthetic_pictures import draw_on_ruled_paper
from stages.common.errors import UserError
from tests.drawings import ARRAYS, draw_row, encode
from tests.project import ROOT

Floats = npt.NDArray[np.float64]
IMAGES = ARRAYS["x_test"][:8]


def correlation(image: UInt8, expected: UInt8) -> float:
    """Correlation of the pixels of two images: 1 if they are equal, or shifted by a pixel."""
    shifts = itertools.product((-1, 0, 1), repeat=2)
    shifted = [np.roll(expected, shift, axis=(0, 1)).ravel() for shift in shifts]
    return max(float(np.corrcoef(image.ravel(), each)[0, 1]) for each in shifted)


def digit_images(picture: Image.Image | UInt8) -> list[UInt8]:
    """The images of all digits in a picture, uint8 of shape (28, 28) each."""
    return [digit.image for row in find_rows(np.asarray(picture)) for digit in row]


def digit_image(picture: Image.Image | UInt8) -> UInt8:
    """The image of the only digit in a picture."""
    (image,) = digit_images(picture)
    return image


def has_digits(picture: Image.Image, expected: list[UInt8], min_correlation: float = 0.85) -> bool:
    images = digit_images(picture)
    return len(images) == len(expected) and all(
        correlation(*pair) > min_correlation for pair in zip(images, expected, strict=True)
    )


# ── Picture files ──


def draw_one(mode: str, background: Any, foreground: Any) -> Image.Image:
    """Draws a 1 with a foot: its image differs from the same one upside down or mirrored."""
    image = Image.new(mode, (90, 120), background)
    draw = ImageDraw.Draw(image)
    draw.rectangle((42, 20, 49, 100), fill=foreground)
    draw.rectangle((25, 93, 66, 100), fill=foreground)
    return image


BLACK_ON_WHITE = draw_one("RGB", "white", "black")
EXPECTED = digit_image(draw_one("L", 255, 0))


def with_orientation(orientation: int, transposition: Image.Transpose) -> bytes:
    """Encodes a transposed picture, and the EXIF orientation that a viewer corrects it by."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(BLACK_ON_WHITE.transpose(transposition), "JPEG", exif=exif)


def with_text() -> bytes:
    """Encodes a picture with 3 MB of text, of which Pillow reads 1 MB."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 3_000_000, zip=True)
    text.add_itxt("Comment", "x" * 3_000_000, zip=True)
    text.add_text("Comment", "x" * 3_000_000)
    return encode(BLACK_ON_WHITE, pnginfo=text)


def with_wild_pixels() -> bytes:
    """Encodes pixels from 0.25 to 1, and three that mean "no data"."""
    pixels = np.array(draw_one("F", 1.0, 0.25))
    pixels[5, 5], pixels[50, 80], pixels[119, 89] = -1e38, np.nan, np.inf
    return encode(Image.fromarray(pixels), "TIFF")


def draw_red_on_green_with_a_corner() -> Image.Image:
    image = draw_one("RGB", *RED_ON_GREEN).convert("RGBA")
    image.paste((255, 255, 255, 0), (0, 0, 9, 9))
    return image


RED_ON_GREEN = ((0, 130, 0), (255, 0, 0))  # both have the luminance 76
FILES = {
    "colour": encode(draw_one("RGB", "ivory", "navy"), "PNG"),
    "red on green": encode(draw_one("RGB", *RED_ON_GREEN), "PNG"),
    "red on green, JPEG": encode(draw_one("RGB", *RED_ON_GREEN), "JPEG"),
    "yellow on white": encode(draw_one("RGB", "white", "yellow"), "PNG"),
    "red on green, transparent corner": encode(draw_red_on_green_with_a_corner(), "PNG"),
    "text": with_text(),
    "no data": with_wild_pixels(),
    "light on dark": encode(draw_one("RGB", "darkgreen", "white"), "JPEG"),
    "1 bit": encode(draw_one("1", 1, 0), "PNG"),
    "16 bits": encode(draw_one("I;16", 60_000, 2_000), "PNG"),
    "16 bits, dark": encode(draw_one("I;16", 2_000, 1_000), "TIFF"),
    "float": encode(draw_one("F", 1.0, 0.25), "TIFF"),
    "palette": encode(draw_one("RGB", "white", "red").quantize(4), "GIF"),
    "CMYK": encode(BLACK_ON_WHITE.convert("CMYK"), "JPEG"),
    "WebP": encode(BLACK_ON_WHITE, "WEBP"),
    "black on transparent": encode(draw_one("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "PNG"),
    "white on transparent": encode(draw_one("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)), "PNG"),
    "grey and alpha": encode(draw_one("LA", (0, 0), (0, 255)), "PNG"),
    "transparent palette": encode(draw_one("P", 0, 1), "PNG", transparency=0),
    "rotated right": with_orientation(8, Image.Transpose.ROTATE_270),
    "rotated left": with_orientation(6, Image.Transpose.ROTATE_90),
    "upside down": with_orientation(3, Image.Transpose.ROTATE_180),
    "mirrored": with_orientation(2, Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_picture_file_is_read(name: str) -> None:
    grey = read_grayscale(io.BytesIO(FILES[name]))
    assert correlation(digit_image(grey), EXPECTED) > 0.9


def test_luminance_is_read_on_coloured_paper() -> None:
    """Colours vary twice as much along the axis from red to green, which separates the papers."""
    picture = draw_one("RGB", (230, 150, 150), (90, 90, 90))
    right_half = draw_one("RGB", (130, 200, 130), (90, 90, 90)).crop((45, 0, 90, 120))
    picture.paste(right_half, (45, 0))
    grey = read_grayscale(io.BytesIO(encode(picture)))
    assert correlation(digit_image(grey), EXPECTED) > 0.9


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_a_large_picture_is_reduced(file_format: str) -> None:
    large = draw_one("L", 255, 0).resize((4_500, 6_000), Image.Resampling.NEAREST)
    grey = read_grayscale(io.BytesIO(encode(large, file_format)))
    assert max(grey.shape) <= MAX_SIDE_PX
    assert correlation(digit_image(grey), EXPECTED) > 0.95


def test_a_jpeg_file_of_108_megapixels_is_read() -> None:
    large = draw_one("L", 255, 0).resize((9_000, 12_000), Image.Resampling.NEAREST)
    grey = read_grayscale(io.BytesIO(encode(large, "JPEG")))
    assert correlation(digit_image(grey), EXPECTED) > 0.95
    with pytest.raises(UserError, match="more than 100 megapixels"):  # it needs all its pixels
        read_grayscale(io.BytesIO(encode(large, "JPEG", progressive=True)))


def test_transparent_corners_of_a_photo_get_the_level_of_its_background() -> None:
    luminance = np.asarray(draw_one("L", 240, 20))
    alpha = np.full_like(luminance, 255)
    alpha[:10, :10] = 0
    assert (composite(luminance, alpha)[:10, :10] == 240).all()


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG file that declares a size, without the pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4)


PHOTO = encode(BLACK_ON_WHITE.resize((900, 1_200)), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"digits", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
        (PHOTO[: len(PHOTO) // 2], "damaged"),
        (png_header(60_000, 60_000), "more than 100 megapixels"),
        (png_header(10_001, 10_000), "more than 100 megapixels"),
    ],
)
def test_an_unreadable_file_gets_a_message_of_one_line(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_grayscale(io.BytesIO(content))
    assert "\n" not in str(error.value)


# ── Foreground ──


def draw_seven(stroke_width_px: int = 16) -> Floats:
    """Coverage of a 7 that fills most of the picture: 0 or 1, of shape (300, 240)."""
    coverage = np.zeros((300, 240))
    coverage[60 : 60 + stroke_width_px, 60:180] = 1
    for row in range(60, 240):
        column = 180 - (row - 60) // 3
        coverage[row, column - stroke_width_px : column] = 1
    return coverage


def to_uint8(grey: Floats) -> UInt8:
    return np.clip(grey, 0, 255).astype(np.uint8)


SEVEN = draw_seven()
BLACK_SEVEN = to_uint8(255 - 255 * SEVEN)
NOISE = np.random.default_rng(seed=0).normal(size=SEVEN.shape)
TEXTURE = ndimage.gaussian_filter(NOISE, 2)
SPECK = np.hypot(*np.mgrid[-280:20, -20:220]) < 3
SHADOW = np.where(np.arange(240) < 100, 0.6, 1)
SEVENS = {
    "light on dark": 255 * SEVEN,
    "faint pencil": 220 - 25 * SEVEN + 2 * NOISE,
    "noise": 200 - 120 * SEVEN + 12 * NOISE,
    "gradient": 230 - 130 * SEVEN - np.linspace(0, 90, 240),
    "hard shadow": (230 - 150 * SEVEN) * SHADOW,
    "texture of paper": 210 - 120 * SEVEN + 25 * TEXTURE,
    "speck": 255 - 255 * SEVEN - 255 * SPECK,
    "dark border": np.pad(255 - 255 * SEVEN, 12),
    "wide margins": np.pad(255 - 255 * SEVEN, 500, constant_values=255),
    "stroke at the border": 255 - 255 * SEVEN[60:],
}


@pytest.mark.parametrize("name", SEVENS)
def test_a_digit_has_the_same_image_on_any_background(name: str) -> None:
    assert correlation(digit_image(to_uint8(SEVENS[name])), digit_image(BLACK_SEVEN)) > 0.9


def test_images_of_mnist_remain_nearly_unchanged() -> None:
    images = ARRAYS["x_train"][:100]
    results = [digit_image(image) for image in images]
    assert np.mean([correlation(*pair) for pair in zip(results, images, strict=True)]) > 0.97
    assert min(image.max() for image in results) == 255


def test_a_digit_cropped_without_margins_is_found() -> None:
    # Such a picture is up to 40% foreground, and its border is both foreground and background.
    for image in ARRAYS["x_train"][:100]:
        cropped = image[bounding_box(image > 0)]
        if (cropped > 127).mean() < 0.4:
            height, width = cropped.shape
            large = Image.fromarray(255 - cropped).resize((8 * width, 8 * height))
            assert correlation(digit_image(large), digit_image(image)) > 0.8


def test_a_digit_of_8x8_pixels_is_found() -> None:
    for image in IMAGES:
        cropped = Image.fromarray(255 - image[bounding_box(image > 60)])
        small = cropped.resize((8, 8), Image.Resampling.BOX)
        assert digit_image(small).shape == (28, 28)


def test_digits_of_12x12_pixels_without_margins_keep_their_shape() -> None:
    right = 0
    for image in ARRAYS["x_test"][:40]:
        stretched = Image.fromarray(255 - image[bounding_box(image > 60)])
        large = ImageOps.expand(stretched.resize((96, 96)), 20, fill=255)
        small = stretched.resize((12, 12), Image.Resampling.BOX)
        with contextlib.suppress(UserError):
            right += has_digits(small, [digit_image(large)], min_correlation=0.7)
    assert right >= 38


@pytest.mark.parametrize("stroke_width_px", [1, 2, 4])
def test_hairlines_are_widened(stroke_width_px: int) -> None:
    image = digit_image(to_uint8(255 - 255 * draw_seven(stroke_width_px)))
    assert image.max() == 255
    assert np.count_nonzero(image > 100) > 30


def test_a_stroke_may_fade_to_25_percent_of_its_contrast() -> None:
    boxes = []
    for level_of_foot in (30, 240 - 52):
        grey = np.full((200, 200), 240, dtype=np.uint8)
        grey[40:110, 95:107] = 30
        grey[110:160, 95:107] = level_of_foot
        (digit,) = find_digits(grey)
        boxes.append(digit.box)
    assert boxes[0] == pytest.approx(boxes[1], abs=2)


def test_the_background_is_estimated_under_the_writing() -> None:
    light = 230 - np.add.outer(np.linspace(0, 60, 300), np.linspace(0, 40, 240))
    assert np.abs(estimate_background(to_uint8(light - 100 * SEVEN)) - light).max() < 8


def test_a_digit_keeps_its_aspect_ratio_in_a_20x20_box_centered_by_mass() -> None:
    image = digit_image(BLACK_SEVEN)
    rows, columns = bounding_box(image > 0)
    assert max(rows.stop - rows.start, columns.stop - columns.start) == 20
    assert np.allclose(ndimage.center_of_mass(image.astype(float)), 14, atol=0.51)
    assert fit_to_box(np.ones((100, 30), dtype=np.float32)).shape == (20, 6)
    # A digit with nearly all its mass at one side is not cut off by the 28x28 image.
    lopsided = np.full((20, 20), 0.01, dtype=np.float32)
    lopsided[0] = 1
    assert np.count_nonzero(center_by_mass(lopsided) == 255) == 20


# ── Segmentation ──


@pytest.mark.parametrize("line_level", [80, 130, 200])
@pytest.mark.parametrize("is_squared", [True, False])
def test_lines_of_ruled_paper_are_removed(is_squared: bool, line_level: int) -> None:
    """Of paper with a luminance of 248, also if it is tilted; the pen has 47."""
    right = 0
    for index, image in enumerate(IMAGES):
        random = np.random.default_rng([5, index])
        images = [image, IMAGES[0], image]
        picture = draw_on_ruled_paper(images, line_level, is_squared, random)
        with contextlib.suppress(UserError):
            right += has_digits(Image.fromarray(picture), images)
    assert right >= len(IMAGES) - 1


def test_straight_strokes_are_not_ruled_lines() -> None:
    for right in (43, 52):
        light = Image.new("L", (220, 200), 240)
        draw = ImageDraw.Draw(light)
        draw.rectangle((40, 20, right, 180), fill=140)
        draw.ellipse((100, 40, 180, 160), outline=20, width=12)
        assert len(digit_images(light)) == 2

    ones = Image.new("L", (300, 100), 240)
    for x in (50, 150, 250):
        ImageDraw.Draw(ones).line([(x + 1, 7), (x - 1, 93)], fill=30, width=4)
    assert len(digit_images(ones)) == 3

    angular = Image.new("L", (100, 160), 240)
    corners = [(10, 10), (90, 10), (90, 80), (20, 80), (90, 80), (90, 150), (10, 150)]
    ImageDraw.Draw(angular).line(corners, fill=40, width=10)
    (image,) = digit_images(angular)
    assert np.count_nonzero(image[:, 10] > 90) == 6  # three bars, two pixels each


def test_any_straight_line_across_ruled_paper_is_removed() -> None:
    """Of the digit and the margin, only the latter goes from side to side."""
    for is_digit_one in (True, False):
        picture = Image.new("L", (400, 400), 235)
        draw = ImageDraw.Draw(picture)
        for position in range(20, 400, 40):
            draw.line([(0, position), (400, position)], fill=110, width=2)
        draw.line([(60, 0), (60, 400)], fill=90, width=3)
        digit = [(200, 40), (200, 360)] if is_digit_one else [(160, 110), (260, 110), (190, 270)]
        draw.line(digit, fill=20, width=9, joint="curve")
        ((found,),) = find_rows(np.asarray(picture))
        assert found.box[0] > 100
        assert found.box[3] - found.box[1] == pytest.approx(digit[-1][1] - digit[0][1], abs=12)


def test_small_and_large_digits_on_ruled_paper() -> None:
    """An opening wider than the lines would cut the 7, and the 0 covers much of two lines."""
    seven = Image.new("L", (800, 800), 235)
    for position in range(30, 800, 60):
        ImageDraw.Draw(seven).line([(0, position), (800, position)], fill=190, width=3)
    stroke = [(400, 480), (445, 480), (410, 545)]
    ImageDraw.Draw(seven).line(stroke, fill=30, width=5, joint="curve")
    assert len(digit_images(seven)) == 1

    zero = Image.new("L", (400, 400), 235)
    draw = ImageDraw.Draw(zero)
    for position in range(22, 400, 45):
        draw.line([(0, position), (400, position)], fill=150, width=2)
        draw.line([(position, 0), (position, 400)], fill=150, width=2)
    plain = Image.new("L", (400, 400), 235)
    for picture in (zero, plain):
        ImageDraw.Draw(picture).ellipse([190, 110, 292, 290], outline=40, width=24)
    assert has_digits(zero, digit_images(plain))


def draw_lines(lines: Callable[[int], Sequence[tuple[int, int]]], count: int) -> UInt8:
    """Draws polygons that enclose or cross each other, 1,000 pixels a side."""
    picture = Image.new("L", (1_000, 1_000), 240)
    for index in range(count):
        ImageDraw.Draw(picture).line(lines(index), fill=20, width=3)
    return np.asarray(picture)


def square(left: int) -> list[tuple[int, int]]:
    right = 999 - left
    return [(left, left), (right, left), (right, right), (left, right), (left, left)]


SLOW_PICTURES = {
    "frames": draw_lines(lambda i: square(10 * i), 49),
    "few frames": draw_lines(lambda i: square(60 * i), 8),
    "frames without corners": draw_lines(lambda i: square(10 * i + 5)[:3], 45),
    "diagonals": draw_lines(lambda i: [(20 + 5 * i, 20), (500 + 5 * i, 980)], 90),
    "pages on pages": np.uint8(250) * (np.indices((1_000, 1_000)).min(axis=0) // 8 % 2 == 0),
    "noise": np.random.default_rng(0).integers(0, 256, (1_000, 1_000), dtype=np.uint8),
    "checkerboard": np.uint8(250) * (np.indices((1_000, 1_000)).sum(axis=0) // 25 % 2 == 0),
}


@pytest.mark.parametrize("name", SLOW_PICTURES)
def test_no_picture_takes_long(name: str) -> None:
    """A second of processor at most; the limit is higher, as the machine may be slower."""
    start = time.process_time()
    with contextlib.suppress(UserError):
        find_rows(SLOW_PICTURES[name])
    assert time.process_time() - start < 4


def test_a_texture_is_not_a_digit() -> None:
    fence = Image.new("L", (500, 300), 240)
    for position in range(60, 260, 40):
        ImageDraw.Draw(fence).line((position, 40, position, 240), fill=20, width=9)
        ImageDraw.Draw(fence).line((40, position, 240, position), fill=20, width=9)
    fence.paste(draw_row(IMAGES[0]).crop((20, 20, 190, 180)), (300, 60))
    with pytest.raises(UserError, match="texture"):
        find_rows(np.asarray(fence))


def test_a_row_is_found_from_left_to_right() -> None:
    row = draw_row(*IMAGES)
    assert has_digits(row, list(IMAGES))
    light_on_dark = draw_row(*IMAGES[::-1], background=30, foreground=230)
    assert has_digits(light_on_dark, list(IMAGES[::-1]))
    # Boxes are in pixels of the picture.
    (digits,) = find_rows(np.asarray(row))
    left, top, right, bottom = np.array([digit.box for digit in digits]).T
    assert (left[1:] > right[:-1]).all()
    assert (top > 30).all()
    assert (bottom < 170).all()
    assert left[0] == pytest.approx(45, abs=6)


@pytest.mark.parametrize("row_gap_px", [-30, 40])
def test_digits_are_read_row_by_row(row_gap_px: int) -> None:
    """Also if the rows are so near to each other that the gap is a tenth of a digit's height."""
    upper, lower = (np.asarray(draw_row(*images)) for images in (IMAGES[:3], IMAGES[3:7]))
    picture = np.full((400 + row_gap_px, lower.shape[1]), 240, dtype=np.uint8)
    picture[:200, : upper.shape[1]] = upper
    np.minimum(picture[-200:], lower, out=picture[-200:])
    rows = find_rows(picture)
    assert [len(row) for row in rows] == [3, 4]
    for digit, image in zip(itertools.chain(*rows), IMAGES[:7], strict=True):
        assert correlation(digit.image, image) > 0.85


def test_a_row_may_be_slanted() -> None:
    slanted = draw_row(*IMAGES).rotate(20, expand=True, fillcolor=240)
    (row,) = find_rows(np.asarray(slanted))
    assert len(row) == len(IMAGES)


def test_pictures_of_the_documentation_have_one_digit_each() -> None:
    for path in (ROOT / "docs/pictures").iterdir():
        if path.stem == "empty":
            with pytest.raises(UserError, match="no digit stands out"):
                find_digits(read_grayscale(path))
        else:
            assert len(find_digits(read_grayscale(path))) == 1, path


@pytest.mark.parametrize("index", range(4))
def test_surroundings_of_a_digit_are_ignored(index: int) -> None:
    image = IMAGES[index]
    sheet = draw_row(image)
    width, height = sheet.size

    def lay_on(level: int, sheet: Image.Image = sheet) -> Image.Image:
        """Pastes a sheet of paper into a larger picture of one grey level."""
        picture = Image.new("L", (width + 200, height + 150), level)
        picture.paste(sheet, (80, 60))
        return picture

    framed = lay_on(240)
    ImageDraw.Draw(framed).rectangle((60, 45, width + 100, height + 75), outline=0, width=5)
    strip = lay_on(240)
    strip.paste(0, (0, 0, 20, strip.height))
    grey = np.asarray(strip)
    faint = np.where(grey > 0, 240 - (240 - grey) // 9, 90).astype(np.uint8)
    chalk = draw_row(image, background=30, foreground=230)
    pictures = {
        "a sheet on a dark table": lay_on(40),
        "a dark box on a white page": lay_on(255, chalk),
        "a grey sheet on a white page": lay_on(255, draw_row(image, background=170)),
        "a frame": framed,
        "a dark strip at the border": strip,
        "faint writing beside a dark strip": Image.fromarray(faint),
    }
    for name, picture in pictures.items():
        assert has_digits(picture, [image]), name


def test_the_edge_of_a_sheet_is_not_writing() -> None:
    """It is darker than the sheet, as in half shadow, and brighter than the table."""
    sheet = draw_row(*IMAGES[:2]).resize((600, 300))
    ImageDraw.Draw(sheet).rectangle((0, 0, 599, 299), outline=150, width=8)
    picture = Image.new("L", (1_000, 1_000), 40)
    picture.paste(sheet, (200, 300))
    assert len(digit_images(picture)) == 2


def test_dark_objects_at_the_border_are_ignored() -> None:
    """Unlike a dark strip, they leave no rectangle that could be a page."""
    picture = Image.new("L", (300, 300), 230)
    picture.paste(draw_row(IMAGES[0], background=230), (60, 50))
    for box in ((20, 0, 80, 8), (150, 0, 210, 8), (100, 291, 160, 299)):
        ImageDraw.Draw(picture).rectangle(box, fill=30)
    assert has_digits(picture, [IMAGES[0]])


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("index", range(4))
def test_a_digit_may_touch_its_frame(index: int, side: int, cropped: bool) -> None:
    image = IMAGES[index]
    picture = Image.new("L", (400, 400), 235)
    picture.paste(draw_row(image, background=235), (100, 100))
    rows, columns = bounding_box(np.asarray(picture) < 128)
    line_width = 6
    margins = np.full(4, 50)
    margins[side] = line_width - 2
    left, top = columns.start - margins[0], rows.start - margins[1]
    right, bottom = columns.stop - 1 + margins[2], rows.stop - 1 + margins[3]
    frame = (left, top, right, bottom)
    ImageDraw.Draw(picture).rectangle(frame, outline=20, width=line_width)
    if cropped:
        picture = picture.crop((left, top, right + 1, bottom + 1))
    assert has_digits(picture, [image], min_correlation=0.8)


def test_a_digit_may_touch_the_edge_of_a_sheet() -> None:
    sheet = draw_row(IMAGES[0])
    top = bounding_box(np.asarray(sheet) < 128)[0].start
    picture = Image.new("L", (400, 400), 170)
    picture.paste(sheet.crop((0, top + 2, *sheet.size)), (80, 100))
    assert has_digits(picture, [IMAGES[0]], min_correlation=0.8)


def test_digits_may_touch_the_lines_of_a_table() -> None:
    picture = Image.new("L", (620, 220), 235)
    for column, image in enumerate(IMAGES[:4]):
        digit = Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC)
        picture.paste(20, (60 + 125 * column, 40 if column % 2 else 54), mask=digit)
        cell = (50 + 125 * column, 50, 50 + 125 * (column + 1), 175)
        ImageDraw.Draw(picture).rectangle(cell, outline=20, width=3)
    assert has_digits(picture, list(IMAGES[:4]), min_correlation=0.7)


@pytest.mark.parametrize("tail_length", [0, 12, 25])
def test_an_angular_0_is_not_a_frame(tail_length: int) -> None:
    """Not even if the end of its stroke reaches into it, like writing in a frame."""
    zero = Image.new("L", (200, 240), 235)
    draw = ImageDraw.Draw(zero)
    draw.rounded_rectangle((50, 40, 150, 200), radius=45, outline=20, width=12)
    draw.line((100, 50, 100, 50 + tail_length), fill=20, width=12)
    (digit,) = find_digits(np.asarray(zero))
    assert digit.box == pytest.approx((50, 40, 151, 201), abs=6)


def test_a_speck_in_a_0_is_not_writing_in_a_frame() -> None:
    zero = Image.new("L", (200, 240), 235)
    draw = ImageDraw.Draw(zero)
    draw.rounded_rectangle((50, 40, 150, 200), radius=25, outline=20, width=12)
    draw.ellipse((96, 116, 104, 124), fill=20)
    (digit,) = find_digits(np.asarray(zero))
    assert digit.box == pytest.approx((50, 40, 151, 201), abs=6)


@pytest.mark.parametrize("stroke_width_px", [0, 3, 8])
@pytest.mark.parametrize("margin", [0, 30])
@pytest.mark.parametrize("number", range(10))
def test_a_bold_digit_is_not_a_page(number: int, margin: int, stroke_width_px: int) -> None:
    """Not even a printed one, whose strokes are as broad as the gaps between them."""
    from matplotlib import font_manager

    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 150)
    text, width = str(number), stroke_width_px
    left, top, right, bottom = font.getbbox(text, stroke_width=width)
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    picture = Image.new("L", size, 240)
    position = (margin - left, margin - top)
    ImageDraw.Draw(picture).text(position, text, fill=20, font=font, stroke_width=width)
    rows, columns = bounding_box(np.asarray(picture) < 128)
    (digit,) = find_digits(np.asarray(picture))
    expected = (columns.start, rows.start, columns.stop, rows.stop)
    assert digit.box == pytest.approx(expected, abs=6)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 100, 0, 60), (0, 100, 80, 140), False),  # two digits beside each other
        ((0, 100, 0, 60), (30, 70, 70, 100), False),  # a small digit beside a large one
        ((40, 100, 0, 50), (10, 20, 20, 60), True),  # a 5 and its top bar
        ((0, 50, 10, 60), (54, 100, 0, 50), True),  # the halves of a broken digit
        ((0, 50, 10, 60), (60, 110, 10, 60), False),  # digits in two rows
        ((0, 100, 0, 60), (200, 300, 0, 60), False),  # far below
    ],
)
def test_is_one_digit(first: tuple[int, ...], second: tuple[int, ...], expected: bool) -> None:
    a, b = ((slice(*each[:2]), slice(*each[2:])) for each in (first, second))
    assert is_one_digit(a, b) == is_one_digit(b, a) == expected


TOUCHING = Image.new("L", (400, 200), 240)
for left in (40, 118, 196):
    ImageDraw.Draw(TOUCHING).ellipse((left, 60, left + 80, 160), outline=20, width=8)
DISK = np.hypot(*np.ogrid[-90:110, -120:140]) < 60
STRIP = np.where(np.arange(260) < 9, 40, 230) * np.ones((200, 1))
SCATTERED = Image.new("L", (900, 400), 240)
for left, top in ((30, 20), (250, 140), (470, 85), (690, 170)):
    SCATTERED.paste(draw_row(IMAGES[0]).crop((30, 20, 190, 180)), (left, top))
RINGS = Image.new("L", (600, 600), 240)
for left in range(0, 290, 12):
    ImageDraw.Draw(RINGS).ellipse((left, left, 599 - left, 599 - left), outline=20, width=4)
NOTHING = "no digit stands out"
NOISY = "more than 100 separate marks"
BROAD = "strokes are too broad"
PICTURES_WITHOUT_DIGITS = {
    "1x1": (np.full((1, 1), 255.0), NOTHING),
    "white": (np.full((300, 200), 255.0), NOTHING),
    "black": (np.zeros((300, 200)), NOTHING),
    "gradient": (np.linspace(0, 255, 300)[:, None] * np.ones(200), NOTHING),
    "noise": (200 + 15 * NOISE, NOISY),
    "texture": (200 + 40 * TEXTURE, NOISY),
    "noisy gradient": (200 - np.linspace(0, 100, 240) + 4 * NOISE, NOTHING),
    "strip at the border": (STRIP, NOTHING),
    "round shadow": (np.where(DISK, 90.0, 190.0), BROAD),
    "round light": (np.where(DISK, 255.0, 190.0), BROAD),
    "scattered digits": (np.asarray(SCATTERED), "not in rows"),
    "rings in rings": (np.asarray(RINGS), "within or across each other"),
    "bricks": (bricks(np.random.default_rng(0)), "no writing stands out from the lines"),
    "touching digits": (np.asarray(TOUCHING), "digits that touch"),
}


@pytest.mark.parametrize("name", PICTURES_WITHOUT_DIGITS)
def test_a_picture_without_separate_digits_gets_a_message_of_one_line(name: str) -> None:
    grey, message = PICTURES_WITHOUT_DIGITS[name]
    with pytest.raises(UserError, match=message) as error:
        find_rows(to_uint8(grey))
    assert "\n" not in str(error.value)


def test_random_pixels_give_images_or_a_user_error() -> None:
    generator = np.random.default_rng(seed=3)
    for shape in [(1, 1), (1, 50), (2, 3), (3, 900), (7, 5), (28, 28)] * 30:
        try:
            images = digit_images(generator.integers(256, size=shape, dtype=np.uint8))
        except UserError:
            continue
        for image in images:
            assert image.shape == (28, 28)
            assert image.max() == 255
