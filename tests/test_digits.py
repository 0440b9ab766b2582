"""Several digits in a picture, and what lies around them."""

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from app.digits import digits, one_digit
from stages.data.datasets import embedded_mnist_5k
from stages.edges.bad_input import BadInput
from tests.likeness import likeness, mnist_image

UInt8 = npt.NDArray[np.uint8]
IMAGES = embedded_mnist_5k()["x_test"][:8]


def page(*images: UInt8, gap: int = 30, paper: int = 240, ink: int = 20) -> Image.Image:
    """Digits of MNIST beside each other, 140 pixels high."""
    cut = [image[:, np.flatnonzero(image.max(axis=0))] for image in images]
    cut = [image[:, : image.shape[1]] for image in cut]
    wide = [Image.fromarray(np.ascontiguousarray(each)) for each in cut]
    wide = [each.resize((5 * each.width, 140), Image.Resampling.BICUBIC) for each in wide]
    picture = Image.new("L", (60 + sum(each.width + gap for each in wide), 200), paper)
    left = 45
    for each in wide:
        picture.paste(ink, (left, 30), mask=each)
        left += each.width + gap
    return picture


def found(picture: Image.Image) -> list[UInt8]:
    return [digit.image for digit in digits(np.asarray(picture))]


def alike(images: list[UInt8], expected: list[UInt8]) -> bool:
    return len(images) == len(expected) and all(
        likeness(*pair) > 0.85 for pair in zip(images, expected, strict=True)
    )


def test_a_row_is_found_from_left_to_right() -> None:
    assert alike(found(page(*IMAGES)), list(IMAGES))
    assert alike(found(page(*IMAGES[::-1], paper=30, ink=230)), list(IMAGES[::-1]))


def test_boxes_enclose_the_digits_in_the_pictures_own_pixels() -> None:
    boxes = np.array([digit.box for digit in digits(np.asarray(page(*IMAGES[:3])))])
    left, top, right, bottom = boxes.T
    assert (left[1:] > right[:-1]).all()
    assert (top > 30).all()
    assert (bottom < 170).all()
    assert left[0] == pytest.approx(45, abs=6)


@pytest.mark.parametrize("index", range(4))
def test_what_lies_around_a_digit_makes_no_difference(index: int) -> None:
    image = IMAGES[index]
    sheet = page(image)
    width, height = sheet.size
    place = (80, 60)

    def on(level: int, sheet: Image.Image = sheet) -> Image.Image:
        whole = Image.new("L", (width + 200, height + 150), level)
        whole.paste(sheet, place)
        return whole

    framed = on(240)
    ImageDraw.Draw(framed).rectangle(
        (60, 45, 60 + width + 40, 45 + height + 30), outline=0, width=5
    )
    strip = on(240)
    strip.paste(0, (0, 0, 20, strip.height))
    pictures = {
        "a sheet on a dark table": on(40),
        "a dark box on a white page": on(255, page(image, paper=30, ink=230)),
        "a grey sheet on a white page": on(255, page(image, paper=170)),
        "a frame": framed,
        "a strip at the edge": strip,
        "faint ink beside a dark strip": Image.fromarray(
            np.where(np.asarray(strip) > 0, 240 - (240 - np.asarray(strip)) // 9, 90).astype(
                np.uint8
            )
        ),
    }
    for name, picture in pictures.items():
        assert alike(found(picture), [image]), name


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("index", range(4))
def test_a_digit_may_touch_its_frame(index: int, side: int, cropped: bool) -> None:
    image = IMAGES[index]
    picture = Image.new("L", (400, 400), 235)
    picture.paste(page(image, paper=235), (100, 100))
    rows, columns = np.nonzero(np.asarray(picture) < 128)
    gap, line = np.full(4, 50), 6
    gap[side] = line - 2
    left, top = columns.min() - gap[0], rows.min() - gap[1]
    right, bottom = columns.max() + gap[2], rows.max() + gap[3]
    ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline=20, width=line)
    if cropped:
        picture = picture.crop((left, top, right + 1, bottom + 1))
    (seen,) = found(picture)
    assert likeness(seen, image) > 0.8


def test_digits_may_touch_the_lines_of_a_table() -> None:
    picture = Image.new("L", (620, 220), 235)
    for place, image in enumerate(IMAGES[:4]):
        digit = Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC)
        picture.paste(20, (60 + 125 * place, 40 if place % 2 else 54), mask=digit)
        cell = (50 + 125 * place, 50, 50 + 125 * (place + 1), 175)
        ImageDraw.Draw(picture).rectangle(cell, outline=20, width=3)
    seen = found(picture)
    assert len(seen) == 4
    assert all(likeness(*pair) > 0.7 for pair in zip(seen, IMAGES, strict=False))


def test_a_square_zero_is_no_frame() -> None:
    for reach in (0, 12, 25):  # of the stroke's end into the inside
        zero = Image.new("L", (200, 240), 235)
        draw = ImageDraw.Draw(zero)
        draw.rounded_rectangle((50, 40, 150, 200), radius=45, outline=20, width=12)
        draw.line((100, 50, 100, 50 + reach), fill=20, width=12)
        (box,) = [digit.box for digit in digits(np.asarray(zero))]
        assert box == pytest.approx((50, 40, 151, 201), abs=6)


@pytest.mark.parametrize("stroke", [0, 3, 8])
@pytest.mark.parametrize("margin", [0, 30])
@pytest.mark.parametrize("digit", range(10))
def test_a_bold_digit_is_no_sheet(digit: int, margin: int, stroke: int) -> None:
    """Not even in print, where its strokes are as broad as what is between them."""
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 150)
    left, top, right, bottom = font.getbbox(str(digit), stroke_width=stroke)
    picture = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), 240)
    ImageDraw.Draw(picture).text(
        (margin - left, margin - top), str(digit), fill=20, font=font, stroke_width=stroke
    )
    rows, columns = np.nonzero(np.asarray(picture) < 128)
    ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    (box,) = [digit.box for digit in digits(np.asarray(picture))]
    assert box == pytest.approx(ends, abs=6)


def test_a_stroke_that_gets_faint_is_followed() -> None:
    """Where the ink is only 30% as dark as elsewhere, at the foot of a one."""
    grey = np.full((200, 200), 240, dtype=np.uint8)
    grey[40:110, 95:107] = 30
    grey[110:160, 95:107] = 240 - 65
    image = mnist_image(grey)
    rows = np.flatnonzero(image.max(axis=1) > 40)
    whole = grey.copy()
    whole[110:160, 95:107] = 30
    assert len(rows) == len(np.flatnonzero(mnist_image(whole).max(axis=1) > 40))


def test_a_patch_of_light_or_shadow_is_no_digit() -> None:
    y, x = np.mgrid[:200, :260]
    for level in (90, 255):
        grey = np.where(np.hypot(y - 90, x - 120) < 60, level, 190).astype(np.uint8)
        with pytest.raises(BadInput, match="patch"):
            digits(grey)


def test_a_strip_at_the_edge_is_no_digit() -> None:
    grey = np.full((200, 260), 230, dtype=np.uint8)
    grey[:, :9] = 40
    with pytest.raises(BadInput, match="no ink"):
        digits(grey)


def test_digits_that_touch_get_one_line() -> None:
    zero = Image.new("L", (400, 200), 240)
    for left in (40, 118, 196):
        ImageDraw.Draw(zero).ellipse((left, 60, left + 80, 160), outline=20, width=8)
    with pytest.raises(BadInput, match="digits that touch"):
        digits(np.asarray(zero))


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


def test_a_digit_of_8x8_pixels_is_read() -> None:
    for image in IMAGES:
        rows, columns = (slice(each.min(), each.max() + 1) for each in np.nonzero(image > 60))
        small = Image.fromarray(255 - image[rows, columns]).resize((8, 8), Image.Resampling.BOX)
        assert np.asarray(found(small)).shape == (1, 28, 28)
