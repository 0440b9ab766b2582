import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.data.splitting import held_out

Labels = npt.NDArray[np.uint8]
some_labels = arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, 9))


def per_digit(labels: Labels) -> npt.NDArray[np.int64]:
    return np.bincount(labels, minlength=10)


@given(some_labels, st.data())
def test_each_digit_gives_its_share_and_they_add_up(labels: Labels, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(labels)))
    mask = held_out(labels, count)
    assert mask.dtype == bool
    assert mask.shape == labels.shape
    assert mask.sum() == count
    # Within 1 of the exact share, on either side of it.
    exact = per_digit(labels) * count / len(labels)
    assert (np.abs(per_digit(labels[mask]) - exact) < 1).all()


@given(some_labels, st.data())
def test_the_last_images_of_each_digit_are_held_out(labels: Labels, data: st.DataObject) -> None:
    mask = held_out(labels, data.draw(st.integers(0, len(labels))))
    for digit in range(10):
        of_digit = mask[labels == digit].astype(int)
        assert (np.diff(of_digit) >= 0).all()  # once true, true to the end


@given(some_labels, st.data())
def test_a_larger_split_contains_a_smaller_one(labels: Labels, data: st.DataObject) -> None:
    large = data.draw(st.integers(0, len(labels)))
    small = data.draw(st.integers(0, large))
    lost = held_out(labels, small) & ~held_out(labels, large)
    assert (per_digit(labels[lost]) <= 1).all()  # up to the rounding


@given(st.permutations(list(range(10)) * 4), st.integers(0, 4))
def test_equal_classes_nest_without_rounding(order: list[int], each: int) -> None:
    labels = np.array(order, np.uint8)
    mask = held_out(labels, 10 * each)
    assert per_digit(labels[mask]).tolist() == [each] * 10
    assert not (held_out(labels, 10 * max(0, each - 1)) & ~mask).any()


def test_shares_are_rounded_by_the_largest_remainder() -> None:
    labels = np.repeat(np.array([0, 1, 2], np.uint8), [5, 3, 2])
    # 3 of 10: 1.5, 0.9 and 0.6; the third is that of digit 1, the second of digit 2.
    assert held_out(labels, 3).nonzero()[0].tolist() == [4, 7, 9]


@pytest.mark.parametrize("count", [-1, 4])
def test_more_or_less_than_there_is_cannot_be_held_out(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of 3 images cannot be held out"):
        held_out(np.zeros(3, np.uint8), count)


def test_nothing_of_nothing() -> None:
    assert held_out(np.zeros(0, np.uint8), 0).shape == (0,)
