"""Generated pictures without digits: textures, text, letters and scribbles.

Each function draws a picture, uint8 of shape (300, 400), from a generator of random numbers.
"""

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

UInt8 = npt.NDArray[np.uint8]
Generator = np.random.Generator

HEIGHT_PX, WIDTH_PX = 300, 400
WORDS = ["quick", "brown", "fox", "jumps", "over", "lazy", "dog", "train", "every", "network"]
FONTS = ["DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral"]
# Letters that do not look like a digit.
LETTERS = list("ABCEFGHKMNPQRTWXYadefhkmnrtwxy")


def noise(random: Generator) -> UInt8:
    """Independent pixels."""
    levels = random.normal(128, random.uniform(5, 80), (HEIGHT_PX, WIDTH_PX))
    return to_uint8(levels)


def clouds(random: Generator) -> UInt8:
    """Smoothed noise with contrast, such as a texture out of focus."""
    levels = ndimage.gaussian_filter(
        random.normal(size=(HEIGHT_PX, WIDTH_PX)), random.uniform(2, 20)
    )
    return to_uint8(128 + levels / levels.std() * random.uniform(20, 70))


def blotches(random: Generator) -> UInt8:
    """Dark spots with sharp edges on light paper."""
    levels = ndimage.gaussian_filter(
        random.normal(size=(HEIGHT_PX, WIDTH_PX)), random.uniform(4, 15)
    )
    is_spot = levels > np.quantile(levels, random.uniform(0.8, 0.98))
    return to_uint8(np.where(is_spot, 40, 230) + random.normal(0, 3, levels.shape))


def checkerboard(random: Generator) -> UInt8:
    side = int(random.integers(6, 90))
    y, x = np.indices((HEIGHT_PX, WIDTH_PX)) + random.integers(side)
    dark, light = random.uniform(0, 90), random.uniform(150, 255)
    return to_uint8(
        np.where((y // side + x // side) % 2, dark, light) + random.normal(0, 2, y.shape)
    )


def bricks(random: Generator) -> UInt8:
    """A wall: courses of bricks, shifted by half a brick, with mortar between them."""
    height = int(random.integers(20, 80))
    width, mortar = int(2.2 * height), max(2, height // 10)
    brick, joint = random.uniform(60, 150), random.uniform(160, 240)
    grey = np.full((HEIGHT_PX, WIDTH_PX), joint)
    for course in range(-1, HEIGHT_PX // height + 1):
        for column in range(-1, WIDTH_PX // width + 2):
            top, left = course * height, column * width - (course % 2) * width // 2
            box = (
                slice(max(0, top), max(0, top + height - mortar)),
                slice(max(0, left), max(0, left + width - mortar)),
            )
            grey[box] = brick + random.normal(0, 12)
    return to_uint8(grey + 18 * smooth_noise(1, random))


def grass(random: Generator) -> UInt8:
    """Many thin curved blades."""
    picture = Image.new("L", (WIDTH_PX, HEIGHT_PX), int(random.uniform(20, 90)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(60, 1_500))):
        x, y = random.uniform(0, WIDTH_PX), random.uniform(0, 1.2 * HEIGHT_PX)
        bend, height = random.normal(0, 12, 2), random.uniform(15, 70)
        blade = [(x, y), (x + bend[0] / 2, y - height / 2), (x + bend.sum(), y - height)]
        draw.line(blade, fill=int(random.uniform(90, 230)), width=int(random.integers(1, 4)))
    return np.asarray(picture)


def scribble(random: Generator) -> UInt8:
    """A pen that wanders without lifting."""
    steps = int(random.integers(8, 60))
    points = np.cumsum(random.normal(0, 1, (steps, 2)), axis=0)
    points = ndimage.gaussian_filter1d(points, 0.7, axis=0)
    points -= points.min(axis=0)
    points = 60 + points / max(points.max(), 1e-9) * 180
    picture = Image.new("L", (WIDTH_PX, HEIGHT_PX), 240)
    path, width = [tuple(point) for point in points], int(random.integers(4, 14))
    ImageDraw.Draw(picture).line(path, fill=30, width=width, joint="curve")
    return np.asarray(picture)


def letter(random: Generator) -> UInt8:
    """One printed letter."""
    return draw_text(str(random.choice(LETTERS)), 180, random)


def word(random: Generator) -> UInt8:
    """One printed word."""
    return draw_text(str(random.choice(WORDS)), 60, random)


def text_page(random: Generator) -> UInt8:
    """Printed lines of words."""
    lines = [" ".join(random.choice(WORDS, 5)) for _ in range(int(random.integers(3, 12)))]
    return draw_text("\n".join(lines), int(random.integers(12, 24)), random)


def draw_text(text: str, size: int, random: Generator) -> UInt8:
    font = ImageFont.truetype(font_manager.findfont(str(random.choice(FONTS))), size)
    picture = Image.new("L", (WIDTH_PX, HEIGHT_PX), int(random.uniform(200, 255)))
    ImageDraw.Draw(picture).multiline_text(
        (WIDTH_PX / 2, HEIGHT_PX / 2), text, fill=int(random.uniform(0, 60)), font=font, anchor="mm"
    )
    return np.asarray(picture)


def smooth_noise(sigma_px: float, random: Generator) -> npt.NDArray[np.float64]:
    pixels = random.normal(size=(HEIGHT_PX, WIDTH_PX))
    return np.asarray(ndimage.gaussian_filter(pixels, sigma_px))


def to_uint8(levels: npt.NDArray[np.float64]) -> UInt8:
    return np.clip(levels, 0, 255).astype(np.uint8)
