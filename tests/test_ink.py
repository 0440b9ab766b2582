import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage

from app.digits import digits
from app.ink import paper
from app.mnist_form import boxed, centred
from stages.data.datasets import embedded_mnist_5k
from stages.edges.bad_input import BadInput
from tests.likeness import likeness, mnist_image

Floats = npt.NDArray[np.float64]


def seven(height: int = 300, width: int = 240, stroke: int = 16) -> Floats:
    """The ink of a seven, 0 or 1, of shape (height, width)."""
    ink = np.zeros((height, width))
    ink[60 : 60 + stroke, 60:180] = 1
    for row in range(60, 240):
        column = 180 - (row - 60) // 3
        ink[row, column - stroke : column] = 1
    return ink


def picture(grey: Floats) -> npt.NDArray[np.uint8]:
    return np.clip(grey, 0, 255).astype(np.uint8)


CLEAN = picture(255 - 255 * seven())
NOISE = np.random.default_rng(seed=0).normal(size=CLEAN.shape)


def test_mnists_own_images_come_through_nearly_unchanged() -> None:
    images = embedded_mnist_5k()["x_train"][:200]
    after = [mnist_image(image) for image in images]
    assert np.mean([likeness(*pair) for pair in zip(images, after, strict=True)]) > 0.97
    assert min(image.max() for image in after) == 255


@pytest.mark.parametrize(
    ("name", "grey"),
    [
        ("light on dark", 255 * seven()),
        ("faint pencil", 220 - 25 * seven() + 2 * NOISE),
        ("noise", 200 - 120 * seven() + 12 * NOISE),
        ("gradient", 230 - 130 * seven() - np.linspace(0, 90, 240)),
        ("hard shadow", (230 - 150 * seven()) * np.where(np.arange(240) < 100, 0.6, 1)),
        ("paper's texture", 210 - 120 * seven() + 25 * ndimage.gaussian_filter(NOISE, 2)),
        ("a speck", 255 - 255 * seven() - 255 * (np.hypot(*np.mgrid[-280:20, -20:220]) < 3)),
        ("a dark border", np.pad(255 - 255 * seven(), 12)),
        ("wide margins", np.pad(255 - 255 * seven(), 500, constant_values=255)),
        ("ink at the border", 255 - 255 * seven()[60:]),
    ],
)
def test_the_same_digit_gives_the_same_image(name: str, grey: Floats) -> None:
    assert likeness(mnist_image(picture(grey)), mnist_image(CLEAN)) > 0.9, name


@pytest.mark.parametrize("stroke", [1, 2, 4])
def test_hairlines_become_strokes(stroke: int) -> None:
    image = mnist_image(picture(255 - 255 * seven(stroke=stroke)))
    assert image.max() == 255
    assert np.count_nonzero(image > 100) > 30


def test_a_digit_cut_out_without_a_margin_is_read() -> None:
    # Two fifths of such pictures are ink, and the edges of it are neither ink nor paper.
    for image in embedded_mnist_5k()["x_train"][:100]:
        cut = image[ndimage.find_objects((image > 0).astype(int))[0]]
        if (cut > 127).mean() < 0.4:
            large = Image.fromarray(255 - cut).resize((8 * cut.shape[1], 8 * cut.shape[0]))
            assert likeness(mnist_image(np.asarray(large)), mnist_image(image)) > 0.8


def test_fits_the_box_and_is_centred_by_its_mass() -> None:
    image = mnist_image(CLEAN)
    rows, columns = ndimage.find_objects((image > 0).astype(int))[0]
    assert max(rows.stop - rows.start, columns.stop - columns.start) == 20
    assert np.allclose(ndimage.center_of_mass(image.astype(float)), 14, atol=0.51)


def test_proportions_are_kept() -> None:
    bar = np.ones((100, 30), dtype=np.float32)
    assert boxed(bar).shape == (20, 6)


def test_an_uneven_digit_stays_in_the_frame() -> None:
    lopsided = np.full((20, 20), 0.01, dtype=np.float32)
    lopsided[0] = 1
    assert np.count_nonzero(centred(lopsided) == 255) == 20


@pytest.mark.parametrize(
    "grey",
    [
        np.full((1, 1), 255.0),
        np.full((300, 200), 255.0),
        np.zeros((300, 200)),
        np.linspace(0, 255, 300)[:, None] * np.ones(200),
        200 + 15 * NOISE,
        200 + 40 * ndimage.gaussian_filter(NOISE, 2),
        (200 - np.linspace(0, 100, 240)) + 4 * NOISE,
    ],
    ids=["1x1", "white", "black", "gradient", "noise", "texture", "noisy gradient"],
)
def test_an_empty_picture_is_refused(grey: Floats) -> None:
    with pytest.raises(BadInput, match="no ink"):
        mnist_image(picture(grey))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3), (3, 900), (7, 5), (28, 28)])
def test_any_pixels_give_an_image_or_one_line(shape: tuple[int, int]) -> None:
    chance = np.random.default_rng(seed=3)
    for _ in range(30):
        try:
            found = digits(chance.integers(256, size=shape, dtype=np.uint8))
        except BadInput:
            continue
        for digit in found:
            assert digit.image.shape == (28, 28)
            assert digit.image.max() == 255


def test_paper_follows_a_gradient_under_ink() -> None:
    light = 230 - np.add.outer(np.linspace(0, 60, 300), np.linspace(0, 40, 240))
    assert np.abs(paper(picture(light - 100 * seven())) - light).max() < 8
