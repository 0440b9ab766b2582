"""How a picture becomes digits like MNIST's: its file is decoded, ink found, digits cut out."""

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from app.digits import digits, one_digit
from app.grey import WORKING_SIDE, on_paper, read_grey
from app.ink import paper
from app.mnist_form import boxed, centred
from stages.edges.bad_input import BadInput
from tests import drawings
from tests.drawings import ARRAYS, encoded

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
IMAGES = ARRAYS["x_test"][:8]


def likeness(a: UInt8, b: UInt8) -> float:
    """The correlation of two images' pixels, 1 for the same; a pixel's shift costs nothing."""
    shifted = (np.roll(b, by, (0, 1)) for by in itertools.product((-1, 0, 1), repeat=2))
    return max(float(np.corrcoef(a.ravel(), each.ravel())[0, 1]) for each in shifted)


def found(picture: Image.Image | UInt8) -> list[UInt8]:
    return [digit.image for digit in digits(np.asarray(picture))]


def mnist_image(picture: Image.Image | UInt8) -> UInt8:
    """The image of the only digit in a picture."""
    (image,) = found(picture)
    return image


def all_alike(images: list[UInt8], expected: list[UInt8], least: float = 0.85) -> bool:
    return len(images) == len(expected) and all(
        likeness(*pair) > least for pair in zip(images, expected, strict=True)
    )


# ── Picture files ──


def one(mode: str, paper: Any, ink: Any) -> Image.Image:
    """A picture of a one with a foot, which stands out from it upside down too."""
    image = Image.new(mode, (90, 120), paper)
    draw = ImageDraw.Draw(image)
    draw.rectangle((42, 20, 49, 100), fill=ink)
    draw.rectangle((25, 93, 66, 100), fill=ink)
    return image


ON_WHITE = one("RGB", "white", "black")
EXPECTED = mnist_image(one("L", 255, 0))


def turned(orientation: int, turn: Image.Transpose) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(ON_WHITE.transpose(turn), "JPEG", exif=exif)


FILES = {
    "colour": encoded(one("RGB", "ivory", "navy"), "PNG"),
    "light on dark": encoded(one("RGB", "darkgreen", "white"), "JPEG"),
    "1 bit": encoded(one("1", 1, 0), "PNG"),
    "16 bits": encoded(one("I;16", 60_000, 2_000), "PNG"),
    "16 bits, dark": encoded(one("I;16", 2_000, 1_000), "TIFF"),
    "float": encoded(one("F", 1.0, 0.25), "TIFF"),
    "palette": encoded(one("RGB", "white", "red").quantize(4), "GIF"),
    "cmyk": encoded(ON_WHITE.convert("CMYK"), "JPEG"),
    "webp": encoded(ON_WHITE, "WEBP"),
    "black on nothing": encoded(one("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "PNG"),
    "white on nothing": encoded(one("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)), "PNG"),
    "grey and alpha": encoded(one("LA", (0, 0), (0, 255)), "PNG"),
    "transparent palette": encoded(one("P", 0, 1), "PNG", transparency=0),
    "turned right": turned(8, Image.Transpose.ROTATE_270),
    "turned left": turned(6, Image.Transpose.ROTATE_90),
    "upside down": turned(3, Image.Transpose.ROTATE_180),
    "mirrored": turned(2, Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_read(name: str) -> None:
    assert likeness(mnist_image(read_grey(io.BytesIO(FILES[name]))), EXPECTED) > 0.9


def test_a_huge_picture_is_reduced() -> None:
    large = one("L", 255, 0).resize((4_500, 6_000), Image.Resampling.NEAREST)
    for kind in ("PNG", "JPEG"):
        pixels = read_grey(io.BytesIO(encoded(large, kind)))
        assert max(pixels.shape) <= WORKING_SIDE
        assert likeness(mnist_image(pixels), EXPECTED) > 0.95


def test_holes_are_filled_with_the_paper_around_them() -> None:
    luminance = np.asarray(one("L", 240, 20))
    alpha = np.full_like(luminance, 255)
    alpha[:10, :10] = 0
    assert (on_paper(luminance, alpha)[:10, :10] == 240).all()


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4)


PHOTO = encoded(ON_WHITE.resize((900, 1_200)), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"digits", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
        (PHOTO[: len(PHOTO) // 2], "damaged"),
        (png_that_claims(60_000, 60_000), "more than 100 megapixels"),
        (png_that_claims(10_001, 10_000), "more than 100 megapixels"),
    ],
)
def test_what_is_no_picture_gets_one_line(content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refusal:
        read_grey(io.BytesIO(content))
    assert "\n" not in str(refusal.value)


# ── Ink ──


def seven(stroke: int = 16) -> Floats:
    """The ink of a seven, 0 or 1, of shape (300, 240)."""
    ink = np.zeros((300, 240))
    ink[60 : 60 + stroke, 60:180] = 1
    for row in range(60, 240):
        column = 180 - (row - 60) // 3
        ink[row, column - stroke : column] = 1
    return ink


def picture(grey: Floats) -> UInt8:
    return np.clip(grey, 0, 255).astype(np.uint8)


INK = seven()
CLEAN = picture(255 - 255 * INK)
NOISE = np.random.default_rng(seed=0).normal(size=INK.shape)
TEXTURE = ndimage.gaussian_filter(NOISE, 2)
SPECK = np.hypot(*np.mgrid[-280:20, -20:220]) < 3
SHADOW = np.where(np.arange(240) < 100, 0.6, 1)
SEVENS = {
    "light on dark": 255 * INK,
    "faint pencil": 220 - 25 * INK + 2 * NOISE,
    "noise": 200 - 120 * INK + 12 * NOISE,
    "gradient": 230 - 130 * INK - np.linspace(0, 90, 240),
    "hard shadow": (230 - 150 * INK) * SHADOW,
    "paper's texture": 210 - 120 * INK + 25 * TEXTURE,
    "a speck": 255 - 255 * INK - 255 * SPECK,
    "a dark border": np.pad(255 - 255 * INK, 12),
    "wide margins": np.pad(255 - 255 * INK, 500, constant_values=255),
    "ink at the border": 255 - 255 * INK[60:],
}


@pytest.mark.parametrize("name", SEVENS)
def test_the_same_digit_gives_the_same_image(name: str) -> None:
    assert likeness(mnist_image(picture(SEVENS[name])), mnist_image(CLEAN)) > 0.9


def test_mnists_own_images_come_through_nearly_unchanged() -> None:
    images = ARRAYS["x_train"][:100]
    after = [mnist_image(image) for image in images]
    assert np.mean([likeness(*pair) for pair in zip(images, after, strict=True)]) > 0.97
    assert min(image.max() for image in after) == 255


def test_a_digit_cut_out_without_a_margin_is_read() -> None:
    # Two fifths of such pictures are ink, and the edges of it are neither ink nor paper.
    for image in ARRAYS["x_train"][:100]:
        cut = image[ndimage.find_objects((image > 0).astype(int))[0]]
        if (cut > 127).mean() < 0.4:
            large = Image.fromarray(255 - cut).resize((8 * cut.shape[1], 8 * cut.shape[0]))
            assert likeness(mnist_image(large), mnist_image(image)) > 0.8


def test_a_digit_of_8x8_pixels_is_read() -> None:
    for image in IMAGES:
        rows, columns = (slice(each.min(), each.max() + 1) for each in np.nonzero(image > 60))
        small = Image.fromarray(255 - image[rows, columns]).resize((8, 8), Image.Resampling.BOX)
        assert mnist_image(small).shape == (28, 28)


def test_hairlines_become_strokes() -> None:
    for stroke in (1, 2, 4):
        image = mnist_image(picture(255 - 255 * seven(stroke)))
        assert image.max() == 255
        assert np.count_nonzero(image > 100) > 30


def test_a_stroke_that_gets_faint_is_followed() -> None:
    """Where the ink is only 30% as dark as elsewhere, at the foot of a one."""
    heights = []
    for foot in (30, 240 - 65):
        grey = np.full((200, 200), 240, dtype=np.uint8)
        grey[40:110, 95:107] = 30
        grey[110:160, 95:107] = foot
        heights.append(np.count_nonzero(mnist_image(grey).max(axis=1) > 40))
    assert heights[0] == heights[1]


def test_paper_follows_a_gradient_under_ink() -> None:
    light = 230 - np.add.outer(np.linspace(0, 60, 300), np.linspace(0, 40, 240))
    assert np.abs(paper(picture(light - 100 * INK)) - light).max() < 8


def test_an_image_fits_its_box_keeps_proportions_and_is_centred_by_its_mass() -> None:
    image = mnist_image(CLEAN)
    rows, columns = ndimage.find_objects((image > 0).astype(int))[0]
    assert max(rows.stop - rows.start, columns.stop - columns.start) == 20
    assert np.allclose(ndimage.center_of_mass(image.astype(float)), 14, atol=0.51)
    assert boxed(np.ones((100, 30), dtype=np.float32)).shape == (20, 6)
    # A digit whose mass is at its edge stays in the frame.
    lopsided = np.full((20, 20), 0.01, dtype=np.float32)
    lopsided[0] = 1
    assert np.count_nonzero(centred(lopsided) == 255) == 20


# ── Digits ──


def test_a_row_is_found_from_left_to_right() -> None:
    row = drawings.on_paper(*IMAGES)
    assert all_alike(found(row), list(IMAGES))
    chalk = drawings.on_paper(*IMAGES[::-1], paper=30, ink=230)
    assert all_alike(found(chalk), list(IMAGES[::-1]))
    # Boxes are in the picture's own pixels.
    left, top, right, bottom = np.array([digit.box for digit in digits(np.asarray(row))]).T
    assert (left[1:] > right[:-1]).all()
    assert (top > 30).all()
    assert (bottom < 170).all()
    assert left[0] == pytest.approx(45, abs=6)


@pytest.mark.parametrize("index", range(4))
def test_what_lies_around_a_digit_makes_no_difference(index: int) -> None:
    image = IMAGES[index]
    sheet = drawings.on_paper(image)
    width, height = sheet.size

    def lying_on(level: int, sheet: Image.Image = sheet) -> Image.Image:
        whole = Image.new("L", (width + 200, height + 150), level)
        whole.paste(sheet, (80, 60))
        return whole

    framed = lying_on(240)
    ImageDraw.Draw(framed).rectangle((60, 45, width + 100, height + 75), outline=0, width=5)
    strip = lying_on(240)
    strip.paste(0, (0, 0, 20, strip.height))
    levels = np.asarray(strip)
    faint = np.where(levels > 0, 240 - (240 - levels) // 9, 90).astype(np.uint8)
    pictures = {
        "a sheet on a dark table": lying_on(40),
        "a dark box on a white page": lying_on(255, drawings.on_paper(image, paper=30, ink=230)),
        "a grey sheet on a white page": lying_on(255, drawings.on_paper(image, paper=170)),
        "a frame": framed,
        "a strip at the edge": strip,
        "faint ink beside a dark strip": Image.fromarray(faint),
    }
    for name, picture in pictures.items():
        assert all_alike(found(picture), [image]), name


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("index", range(4))
def test_a_digit_may_touch_its_frame(index: int, side: int, cropped: bool) -> None:
    image = IMAGES[index]
    picture = Image.new("L", (400, 400), 235)
    picture.paste(drawings.on_paper(image, paper=235), (100, 100))
    rows, columns = np.nonzero(np.asarray(picture) < 128)
    gap, line = np.full(4, 50), 6
    gap[side] = line - 2
    left, top = columns.min() - gap[0], rows.min() - gap[1]
    right, bottom = columns.max() + gap[2], rows.max() + gap[3]
    ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline=20, width=line)
    if cropped:
        picture = picture.crop((left, top, right + 1, bottom + 1))
    assert all_alike(found(picture), [image], least=0.8)


def test_digits_may_touch_the_lines_of_a_table() -> None:
    picture = Image.new("L", (620, 220), 235)
    for place, image in enumerate(IMAGES[:4]):
        digit = Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC)
        picture.paste(20, (60 + 125 * place, 40 if place % 2 else 54), mask=digit)
        cell = (50 + 125 * place, 50, 50 + 125 * (place + 1), 175)
        ImageDraw.Draw(picture).rectangle(cell, outline=20, width=3)
    assert all_alike(found(picture), list(IMAGES[:4]), least=0.7)


def test_a_square_zero_is_no_frame() -> None:
    for reach in (0, 12, 25):  # of the stroke's end into the inside
        zero = Image.new("L", (200, 240), 235)
        draw = ImageDraw.Draw(zero)
        draw.rounded_rectangle((50, 40, 150, 200), radius=45, outline=20, width=12)
        draw.line((100, 50, 100, 50 + reach), fill=20, width=12)
        (digit,) = digits(np.asarray(zero))
        assert digit.box == pytest.approx((50, 40, 151, 201), abs=6)


@pytest.mark.parametrize("stroke", [0, 3, 8])
@pytest.mark.parametrize("margin", [0, 30])
@pytest.mark.parametrize("number", range(10))
def test_a_bold_digit_is_no_sheet(number: int, margin: int, stroke: int) -> None:
    """Not even in print, where its strokes are as broad as what is between them."""
    from matplotlib import font_manager

    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 150)
    left, top, right, bottom = font.getbbox(str(number), stroke_width=stroke)
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    picture = Image.new("L", size, 240)
    start = (margin - left, margin - top)
    ImageDraw.Draw(picture).text(start, str(number), fill=20, font=font, stroke_width=stroke)
    rows, columns = np.nonzero(np.asarray(picture) < 128)
    ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    (digit,) = digits(np.asarray(picture))
    assert digit.box == pytest.approx(ends, abs=6)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ((0, 100, 0, 60), (0, 100, 80, 140), False),  # beside each other
        ((0, 100, 0, 60), (30, 70, 70, 100), False),  # a small digit beside
        ((40, 100, 0, 50), (10, 20, 20, 60), True),  # a 5 and its flag
        ((0, 50, 10, 60), (55, 100, 0, 50), True),  # the halves of a broken digit
        ((0, 100, 0, 60), (200, 300, 0, 60), False),  # far below
    ],
)
def test_which_pieces_are_one_digit(
    one: tuple[int, ...], other: tuple[int, ...], together: bool
) -> None:
    boxes = [(slice(*each[:2]), slice(*each[2:])) for each in (one, other)]
    assert one_digit(*boxes) == one_digit(*boxes[::-1]) == together


TOUCHING = Image.new("L", (400, 200), 240)
for left in (40, 118, 196):
    ImageDraw.Draw(TOUCHING).ellipse((left, 60, left + 80, 160), outline=20, width=8)
PATCH = np.hypot(*np.ogrid[-90:110, -120:140]) < 60
NO_DIGITS = {
    "1x1": (np.full((1, 1), 255.0), "no ink"),
    "white": (np.full((300, 200), 255.0), "no ink"),
    "black": (np.zeros((300, 200)), "no ink"),
    "gradient": (np.linspace(0, 255, 300)[:, None] * np.ones(200), "no ink"),
    "noise": (200 + 15 * NOISE, "no ink"),
    "texture": (200 + 40 * TEXTURE, "no ink"),
    "noisy gradient": (200 - np.linspace(0, 100, 240) + 4 * NOISE, "no ink"),
    "strip at the edge": (np.where(np.arange(260) < 9, 40, 230) * np.ones((200, 1)), "no ink"),
    "patch of shadow": (np.where(PATCH, 90.0, 190.0), "patch"),
    "patch of light": (np.where(PATCH, 255.0, 190.0), "patch"),
    "touching digits": (np.asarray(TOUCHING), "digits that touch"),
}


@pytest.mark.parametrize("name", NO_DIGITS)
def test_what_holds_no_separate_digits_gets_one_line(name: str) -> None:
    grey, message = NO_DIGITS[name]
    with pytest.raises(BadInput, match=message) as refusal:
        digits(picture(grey))
    assert "\n" not in str(refusal.value)


def test_any_pixels_give_images_or_one_line() -> None:
    chance = np.random.default_rng(seed=3)
    for shape in [(1, 1), (1, 50), (2, 3), (3, 900), (7, 5), (28, 28)] * 30:
        try:
            images = found(chance.integers(256, size=shape, dtype=np.uint8))
        except BadInput:
            continue
        for image in images:
            assert image.shape == (28, 28)
            assert image.max() == 255
