import numpy as np
import numpy.typing as npt
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.data.scaling import Scaling

PIXELS = np.arange(256, dtype=np.uint8)
images = arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(28), st.just(28)))


def test_unit_maps_a_pixel_to_its_part_of_255() -> None:
    scaled = Scaling.fit("unit", np.zeros((1, 28, 28), np.uint8))(PIXELS)
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (0, 1)
    np.testing.assert_array_equal(scaled, PIXELS.astype(np.float32) / np.float32(255))


def test_standard_against_a_calculation_by_hand() -> None:
    x_train = np.zeros((4, 28, 28), np.uint8)
    x_train[0] = 200  # a quarter: mean 50, variance 200² / 4 - 50²
    scaling = Scaling.fit("standard", x_train)
    assert scaling == Scaling(offset=50.0, divisor=7_500**0.5)


@given(images)
def test_standard_gives_mean_0_and_variance_1(x_train: npt.NDArray[np.uint8]) -> None:
    assume(x_train.min() != x_train.max())
    scaling = Scaling.fit("standard", x_train)
    exact = (x_train.astype(np.float64) - scaling.offset) / scaling.divisor
    assert abs(exact.mean()) < 1e-6
    assert abs(exact.var() - 1) < 1e-6
    np.testing.assert_allclose(scaling(x_train), exact, rtol=1e-4, atol=1e-4)


@given(images)
def test_standard_does_not_depend_on_the_order(x_train: npt.NDArray[np.uint8]) -> None:
    assume(x_train.min() != x_train.max())
    backwards = x_train[::-1, ::-1, ::-1]
    assert Scaling.fit("standard", backwards) == Scaling.fit("standard", x_train)


def test_scaling_leaves_its_argument_alone() -> None:
    for x in (PIXELS.copy(), PIXELS.astype(np.float32)):
        Scaling(10.0, 2.0)(x)
        np.testing.assert_array_equal(x, PIXELS)


def test_values_between_two_pixels() -> None:
    np.testing.assert_array_equal(Scaling(1.0, 2.0)(np.array([[1.5, 0.0]])), [[0.25, -0.5]])
