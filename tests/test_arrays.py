import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.data.arrays import SUMS, Array, load_array, load_split, save_arrays, sha256
from stages.edges.bad_input import BadInput

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 4], dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "raw", {"x_train": IMAGES, "y_train": LABELS})
    return tmp_path / "raw"


def refused(folder: Path, dtype: str = "uint8") -> str:
    with pytest.raises(BadInput) as problem:
        load_split(folder, "train", dtype)
    message = str(problem.value)
    assert len(message.splitlines()) == 1
    return message


def damage(path: Path, place: int, bits: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bits
    path.write_bytes(content)


def test_what_is_saved_is_loaded(folder: Path) -> None:
    x, y = load_split(folder, "train", "uint8")
    np.testing.assert_array_equal(x, IMAGES)
    np.testing.assert_array_equal(y, LABELS)
    assert x.dtype == y.dtype == np.dtype(np.uint8)
    assert sorted(path.name for path in folder.iterdir()) == [SUMS, "x_train.npy", "y_train.npy"]


def test_an_empty_split_is_loaded(tmp_path: Path) -> None:
    images: Array = np.zeros((0, 28, 28), np.float32)
    empty = {"x_validation": images, "y_validation": LABELS[:0]}
    save_arrays(tmp_path / "raw", empty)
    x, y = load_split(tmp_path / "raw", "validation", "float32")
    assert x.shape == (0, 28, 28)
    assert y.shape == (0,)


def test_saving_again_gives_the_same_bytes(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    # However it lies in memory is another matter.
    save_arrays(folder, {"x_train": np.array(IMAGES), "y_train": np.repeat(LABELS, 2)[::2]})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_clears_what_is_no_longer_part_of_it(folder: Path) -> None:
    save_arrays(folder, {"y_test": LABELS})
    assert sorted(path.name for path in folder.iterdir()) == [SUMS, "y_test.npy"]
    assert (folder / SUMS).read_text() == f"{sha256(folder / 'y_test.npy')}  y_test.npy\n"


def test_the_map_is_writable_but_never_writes_to_the_file(folder: Path) -> None:
    before = (folder / "x_train.npy").read_bytes()
    x, y = load_split(folder, "train", "uint8")
    assert isinstance(x, np.memmap)
    x[:] = 7
    y[:] = 7
    x.flush()
    del x
    assert (folder / "x_train.npy").read_bytes() == before
    assert load_split(folder, "train", "uint8")[1].tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", ["x_train.npy", "y_train.npy"])
def test_one_tampered_bit(folder: Path, name: str) -> None:
    damage(folder / name, -1, 1)
    assert refused(folder) == (
        f"{folder / name} is not what was saved: its SHA-256 is not the one in SHA256SUMS; "
        f"remove {folder} and run dvc repro"
    )


@pytest.mark.parametrize("bits", [0x01, 0x08, 0x20, 0xFF])
def test_any_damage_to_the_header(folder: Path, bits: int) -> None:
    for place in range(128):
        damage(folder / "x_train.npy", place, bits)
        assert str(folder / "x_train.npy") in refused(folder)
        damage(folder / "x_train.npy", place, bits)
    load_split(folder, "train", "uint8")  # all is mended


def test_any_truncation(folder: Path) -> None:
    path = folder / "x_train.npy"
    content = path.read_bytes()
    for size in [*range(0, 140, 3), len(content) - 1]:
        path.write_bytes(content[:size])
        assert refused(folder).startswith(f"{path} cannot be read (")
    path.write_bytes(content + b"!")
    assert "is not what was saved" in refused(folder)


def test_a_zip_file_in_place_of_an_array(folder: Path) -> None:
    path = folder / "x_train.npy"
    for content in (zipped(), zipped()[:50]):
        path.write_bytes(content)
        assert refused(folder).startswith(f"{path} cannot be read (")


def zipped() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=IMAGES)
    return file.getvalue()


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
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save_arrays(folder, {"y_train": np.array([None])})
    assert load_split(folder, "train", "uint8")[1].tolist() == LABELS.tolist()
    assert [path.name for path in folder.parent.iterdir()] == ["raw"]
