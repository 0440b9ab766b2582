"""The arithmetic of a warp, by hand where it can be; what is drawn for it, by its statistics."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from stages.training.parameters import Warp
from stages.training.repeatable import tf
from stages.training.warps import AFFINE, Warping, resampled

Floats = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(0)
IMAGES: Floats = RANDOM.random((3, 28, 28), dtype=np.float32)
ROWS, COLUMNS = np.mgrid[:28, :28].astype(np.float32)[:, None]  # each (1, 28, 28)
NONE = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0}


def warping(background: float = 0.0, **how_far: float) -> Warping:
    elastic = {"elastic_amplitude": 0, "elastic_smoothness": 5}
    return Warping(Warp(**(NONE | elastic | how_far)), 1, background)


def warped(images: Floats, *drawn: float, **how_far: float) -> Floats:
    """Images warped by an affine warp as far as the numbers drawn for it say, -1 to 1."""
    noise = np.tile(np.array(drawn, np.float32), (len(images), 1))
    return np.asarray(warping(**how_far)(images, noise))


def blob(row: float, column: float) -> Floats:
    """A smooth spot, (1, 28, 28), centred so far from the picture's centre."""
    return np.asarray(np.exp(-((ROWS - 13.5 - row) ** 2 + (COLUMNS - 13.5 - column) ** 2) / 8))


def test_nothing_drawn_is_nothing_warped() -> None:
    far = {"rotation": 30, "scale": 0.2, "shear": 20, "shift": 3}
    np.testing.assert_array_equal(warped(IMAGES, 0, 0, 0, 0, 0, 0, **far), IMAGES)
    bent = warping(elastic_amplitude=2)
    np.testing.assert_array_equal(bent(IMAGES, tf.zeros((3, AFFINE + 2 * 7 * 7))), IMAGES)


def test_a_shift_moves_pixels_and_black_comes_in() -> None:
    # Three to the left, one down: what is at (r, c) comes from (r - 1, c + 3).
    shifted = warped(IMAGES, 0, 0, 0, 0, 1, -1 / 3, shift=3)
    expected = np.zeros_like(IMAGES)
    expected[:, 1:, :-3] = IMAGES[:, :-1, 3:]
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def test_between_two_pixels_is_their_mean() -> None:
    half = np.asarray(resampled(IMAGES, ROWS, COLUMNS + 0.5))
    np.testing.assert_allclose(
        half[:, :, :-1], (IMAGES[:, :, :-1] + IMAGES[:, :, 1:]) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(half[:, :, -1], IMAGES[:, :, -1] / 2, rtol=1e-6)


def test_a_turn() -> None:
    turned = warped(IMAGES, 1, 0, 0, 0, 0, 0, rotation=90)
    np.testing.assert_allclose(turned, np.rot90(IMAGES, -1, axes=(1, 2)), atol=1e-5)
    back = warped(turned, -1, 0, 0, 0, 0, 0, rotation=90)
    np.testing.assert_allclose(back, IMAGES, atol=1e-5)
    # By 45°, what is right of the centre is then below it, to the right.
    eighth = warped(blob(0, 7), 1, 0, 0, 0, 0, 0, rotation=45)
    np.testing.assert_allclose(eighth, blob(7 / math.sqrt(2), 7 / math.sqrt(2)), atol=0.05)


def test_a_scale_moves_columns_or_rows_alone() -> None:
    for drawn, centre in (((0, 1, 0), (17.5, 19.5)), ((0, 0, -1), (15.5, 17.5))):
        scaled = warped(blob(4, 4), *drawn, 0, 0, 0, scale=0.5)
        row, column = ((scaled * place).sum() / scaled.sum() for place in (ROWS, COLUMNS))
        assert (row, column) == pytest.approx(centre, abs=0.1)


def test_a_shear_slants_what_is_upright() -> None:
    stroke = np.zeros((1, 28, 28), np.float32)
    stroke[:, :, 13:15] = 1
    slanted = warped(stroke, 0, 0, 0, 1, 0, 0, shear=45)
    middles = (slanted * COLUMNS).sum(-1)[0] / slanted.sum(-1)[0]
    # One pixel to the side for each row, to the right where it is above the centre.
    np.testing.assert_allclose(middles, 27 - np.arange(28), atol=0.5)


def test_what_comes_in_from_outside_is_black_on_any_scale() -> None:
    black = np.full((1, 28, 28), -0.42, np.float32)
    noise = np.ones((1, AFFINE), np.float32)
    turned = warping(background=-0.42, rotation=30, shift=9)(black, noise)
    np.testing.assert_allclose(turned, black)


@pytest.mark.parametrize(("amplitude", "smoothness"), [(1.0, 2.0), (2.0, 5.0), (0.5, 9.0)])
def test_elastic_places_are_displaced_as_far_and_as_smoothly_as_is_said(
    amplitude: float, smoothness: float
) -> None:
    elastic = warping(elastic_amplitude=amplitude, elastic_smoothness=smoothness)
    rows, columns = elastic.places(elastic.noise(5_000, 1))
    for moved in (rows - ROWS, columns - COLUMNS):  # (5000, 28, 28)
        field = np.asarray(moved)
        assert abs(field.mean()) < 0.02 * amplitude
        # Everywhere the same, at the border as in the middle.
        np.testing.assert_allclose(np.sqrt((field**2).mean(0)), amplitude, rtol=0.1)
        # What white noise has after a Gaussian: exp(-d² / 4s²) of two pixels d apart.
        together = (field[:, 14, 10] * field[:, 14, 13]).mean() / amplitude**2
        assert together == pytest.approx(math.exp(-9 / (4 * smoothness**2)), abs=0.06)


def test_noise_depends_on_seed_epoch_and_image_alone() -> None:
    warp = warping(rotation=10, elastic_amplitude=1)
    drawn = warp.noise(6, 1).numpy()
    assert (warp.noise(6, 1).numpy() == drawn).all()
    assert (warp.noise(9, 1)[:6].numpy() == drawn).all()
    others = [warp.noise(6, 2).numpy(), Warping(warp.warp, 2, 0.0).noise(6, 1).numpy()]
    assert all((other != drawn).mean() > 0.99 for other in others)
    assert len({row.tobytes() for row in drawn}) == 6
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() <= 1


@pytest.mark.parametrize("name", NONE)
def test_each_number_warps_by_itself(name: str) -> None:
    assert not warping().warp.moves()
    alone = warping(**{name: 0.4})
    assert alone.warp.moves()
    assert (np.asarray(alone(IMAGES, alone.noise(3, 1))) != IMAGES).any()
