"""Augmentation: distortions against results by hand, random numbers by their statistics."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from stages.training.augmentation import AFFINE, Augmenter, resample
from stages.training.hyperparameters import Augmentation
from stages.training.tensorflow_setup import tf

Floats = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(0)
IMAGES: Floats = RANDOM.random((3, 28, 28), dtype=np.float32)
ROWS, COLUMNS = np.mgrid[:28, :28].astype(np.float32)[:, None]  # each (1, 28, 28)
NONE = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0}


def augmenter(background: float = 0.0, **limits: float) -> Augmenter:
    elastic = {"elastic_amplitude": 0, "elastic_smoothness": 5}
    return Augmenter(Augmentation(**(NONE | elastic | limits)), 1, background, (28, 28))


def distorted(images: Floats, *noise: float, **limits: float) -> Floats:
    """Images after the affine distortion of six given random numbers, from -1 to 1."""
    rows = np.tile(np.array(noise, np.float32), (len(images), 1))
    return np.asarray(augmenter(**limits)(images, rows))


def blob(row: float, column: float) -> Floats:
    """An image, (1, 28, 28), of a smooth spot, given its position relative to the centre."""
    return np.asarray(np.exp(-((ROWS - 13.5 - row) ** 2 + (COLUMNS - 13.5 - column) ** 2) / 8))


def test_random_numbers_of_0_leave_an_image_unchanged() -> None:
    limits = {"rotation": 30, "scale": 0.2, "shear": 20, "shift": 3}
    np.testing.assert_array_equal(distorted(IMAGES, 0, 0, 0, 0, 0, 0, **limits), IMAGES)
    elastic = augmenter(elastic_amplitude=2)
    np.testing.assert_array_equal(elastic(IMAGES, tf.zeros((3, AFFINE + 2 * 7 * 7))), IMAGES)


def test_a_shift_moves_pixels_and_fills_with_black() -> None:
    # Three pixels to the left, one down: (r, c) is read from (r - 1, c + 3).
    shifted = distorted(IMAGES, 0, 0, 0, 0, 1, -1 / 3, shift=3)
    expected = np.zeros_like(IMAGES)
    expected[:, 1:, :-3] = IMAGES[:, :-1, 3:]
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def test_half_way_between_two_pixels_is_their_mean() -> None:
    half = np.asarray(resample(IMAGES, ROWS, COLUMNS + 0.5))
    np.testing.assert_allclose(
        half[:, :, :-1], (IMAGES[:, :, :-1] + IMAGES[:, :, 1:]) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(half[:, :, -1], IMAGES[:, :, -1] / 2, rtol=1e-6)


def test_a_rotation_turns_clockwise() -> None:
    turned = distorted(IMAGES, 1, 0, 0, 0, 0, 0, rotation=90)
    np.testing.assert_allclose(turned, np.rot90(IMAGES, -1, axes=(1, 2)), atol=1e-5)
    back = distorted(turned, -1, 0, 0, 0, 0, 0, rotation=90)
    np.testing.assert_allclose(back, IMAGES, atol=1e-5)
    # 45° move a spot at the right of the centre to its lower right.
    eighth = distorted(blob(0, 7), 1, 0, 0, 0, 0, 0, rotation=45)
    np.testing.assert_allclose(eighth, blob(7 / math.sqrt(2), 7 / math.sqrt(2)), atol=0.05)


def test_width_and_height_are_scaled_independently() -> None:
    for noise, centre in (((0, 1, 0), (17.5, 19.5)), ((0, 0, -1), (15.5, 17.5))):
        scaled = distorted(blob(4, 4), *noise, 0, 0, 0, scale=0.5)
        row, column = ((scaled * place).sum() / scaled.sum() for place in (ROWS, COLUMNS))
        assert (row, column) == pytest.approx(centre, abs=0.1)


def test_a_shear_slants_a_vertical_stroke() -> None:
    stroke = np.zeros((1, 28, 28), np.float32)
    stroke[:, :, 13:15] = 1
    slanted = distorted(stroke, 0, 0, 0, 1, 0, 0, shear=45)
    middles = (slanted * COLUMNS).sum(-1)[0] / slanted.sum(-1)[0]
    # One pixel to the side for each row; above the centre to the right.
    np.testing.assert_allclose(middles, 27 - np.arange(28), atol=0.5)


def test_the_background_is_black_with_any_scaling_of_pixels() -> None:
    black = np.full((1, 28, 28), -0.42, np.float32)
    noise = np.ones((1, AFFINE), np.float32)
    turned = augmenter(background=-0.42, rotation=30, shift=9)(black, noise)
    np.testing.assert_allclose(turned, black)


@pytest.mark.parametrize(("amplitude", "smoothness"), [(1.0, 2.0), (2.0, 5.0), (0.5, 9.0)])
def test_the_elastic_field_has_the_given_amplitude_and_smoothness(
    amplitude: float, smoothness: float
) -> None:
    elastic = augmenter(elastic_amplitude=amplitude, elastic_smoothness=smoothness)
    rows, columns = elastic.source_positions(elastic.noise(5_000, 1))
    for displacement in (rows - ROWS, columns - COLUMNS):
        field = np.asarray(displacement)  # (5000, 28, 28)
        assert abs(field.mean()) < 0.02 * amplitude
        # The root mean square is the same at each pixel, also at the border.
        np.testing.assert_allclose(np.sqrt((field**2).mean(0)), amplitude, rtol=0.1)
        # White noise after a Gaussian filter has the autocorrelation exp(-d² / 4s²) at distance d.
        correlation = (field[:, 14, 10] * field[:, 14, 13]).mean() / amplitude**2
        assert correlation == pytest.approx(math.exp(-9 / (4 * smoothness**2)), abs=0.06)


def test_noise_depends_on_seed_epoch_and_image_only() -> None:
    seed_1 = augmenter(rotation=10, elastic_amplitude=1)
    seed_2 = Augmenter(seed_1.augmentation, 2, 0.0, (28, 28))
    noise = seed_1.noise(6, 1).numpy()
    assert (seed_1.noise(6, 1).numpy() == noise).all()
    assert (seed_1.noise(9, 1)[:6].numpy() == noise).all()
    others = [seed_1.noise(6, 2).numpy(), seed_2.noise(6, 1).numpy()]
    assert all((other != noise).mean() > 0.99 for other in others)
    assert len({row.tobytes() for row in noise}) == 6
    assert -1 <= noise.min() < -0.99
    assert 0.99 < noise.max() <= 1


def test_an_image_of_another_shape_is_distorted_about_its_own_centre() -> None:
    images = RANDOM.random((2, 20, 30), dtype=np.float32)
    limits = Augmentation(**NONE | {"rotation": 90}, elastic_amplitude=0, elastic_smoothness=5)
    turn = np.array([[1, 0, 0, 0, 0, 0]] * 2, np.float32)
    turned = np.asarray(Augmenter(limits, 1, 0.0, (20, 30))(images, turn))
    # A quarter turn of the square in the middle; the rest is turned out of the image, or black.
    expected = np.zeros_like(images)
    expected[:, :, 5:25] = np.rot90(images[:, :, 5:25], -1, axes=(1, 2))
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_channels_are_distorted_together_as_gray_images_are() -> None:
    limits = {"rotation": 20, "scale": 0.2, "shear": 10, "shift": 2, "elastic_amplitude": 2}
    gray = augmenter(-0.5, **limits)
    colour = Augmenter(gray.augmentation, 1, -0.5, (28, 28, 3))
    noise = gray.noise(3, 1)
    np.testing.assert_array_equal(colour.noise(3, 1), noise)
    channels: list[Floats] = [IMAGES, 1 - IMAGES, IMAGES * np.float32(0.5)]
    distorted_colour = np.asarray(colour(np.stack(channels, axis=-1), noise))
    for index, channel in enumerate(channels):
        np.testing.assert_array_equal(distorted_colour[..., index], gray(channel, noise))


def test_the_elastic_field_of_another_shape_has_the_given_amplitude() -> None:
    limits = Augmentation(**NONE, elastic_amplitude=2, elastic_smoothness=4)
    elastic = Augmenter(limits, 1, 0.0, (16, 40, 3))
    rows, columns = elastic.source_positions(elastic.noise(4_000, 1))
    own_rows, own_columns = np.mgrid[:16, :40]
    for displacement in (rows - own_rows, columns - own_columns):
        field = np.asarray(displacement)
        assert field.shape == (4_000, 16, 40)
        np.testing.assert_allclose(np.sqrt((field**2).mean(0)), 2, rtol=0.1)


@pytest.mark.parametrize("name", NONE)
def test_each_parameter_distorts_without_the_others(name: str) -> None:
    assert not augmenter().augmentation.is_active()
    single = augmenter(**{name: 0.4})
    assert single.augmentation.is_active()
    assert (np.asarray(single(IMAGES, single.noise(3, 1))) != IMAGES).any()
