"""Data sets on disk: directories of .npy files and their checksums.

The bytes of a .npy file depend on its array only, and it can be memory-mapped. Images are
x_SPLIT.npy, labels y_SPLIT.npy. SHA256SUMS has the format of the command `sha256sum`. Arrays are
read and written in parts, so that memory does not grow with their size.
"""

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError

SUMS = "SHA256SUMS"
PART_BYTES = 2**22
# NumPy's exceptions for a damaged file; the last four are those for a damaged header.
NPY_ERRORS = (ValueError, EOFError, OSError, TypeError, OverflowError, SyntaxError, TokenError)

Array = npt.NDArray[Any]


class Parts(NamedTuple):
    """An array that is never whole in memory.

    Attributes:
        shape: of the array.
        dtype: of the array.
        parts: arrays of its consecutive items; can be iterated once.
    """

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    parts: Iterable[Array]


def save_arrays(directory: Path, arrays: Mapping[str, Array | Parts]) -> None:
    """Writes each array as NAME.npy, and their checksums, into a directory that is replaced."""
    with atomic_write(directory) as partial:
        partial.mkdir()
        write_arrays(partial, arrays)


def write_arrays(directory: Path, arrays: Mapping[str, Array | Parts]) -> None:
    """Writes each array as NAME.npy, and their checksums, into an existing directory."""
    sums = []
    for name, array in arrays.items():
        path = directory / f"{name}.npy"
        whole = array if isinstance(array, Parts) else Parts(array.shape, array.dtype, parts(array))
        with path.open("wb") as file:
            # The bytes that numpy.save writes.
            descr = np.lib.format.dtype_to_descr(np.dtype(whole.dtype))
            header = {"descr": descr, "fortran_order": False, "shape": whole.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for part in whole.parts:
                part.tofile(file)
        sums.append(f"{sha256(path)}  {path.name}\n")
    (directory / SUMS).write_text("".join(sums), newline="\n")


def parts(array: Array, selected: npt.NDArray[np.bool_] | None = None) -> Iterator[Array]:
    """The selected items of an array in order, in parts of at most PART_BYTES bytes.

    Args:
        array: shape (n, …).
        selected: bool of shape (n,), or None for all.
    """
    size = max(1, PART_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), size):
        part = reopened(array)[start : start + size]
        yield part if selected is None else part[selected[start : start + size]]


def reopened(array: Array) -> Array:
    """A new memory map of the same file, if an array is a whole memory map.

    What is read through a map counts as memory of the process until the map is closed.
    """
    # The base of a view of a map is an array instead.
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename:
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape, order)
    return array


def load_split(directory: Path, split: str, dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """Loads and validates the images and labels of one split.

    Args:
        directory: a directory written by `save_arrays`.
        split: train, validation or test.
        dtype: the expected type of the images, uint8 or float32.

    Returns:
        Images of this dtype and shape (n, *load_image_shape(directory)), memory-mapped, and
        labels, uint8 of shape (n,).

    Raises:
        UserError: a file is missing, damaged or changed, or has a different type or shape, or
            images, labels and class names do not fit each other.
    """
    x_path, y_path = directory / f"x_{split}.npy", directory / f"y_{split}.npy"
    x = load_array(x_path, dtype, load_image_shape(directory))
    y = load_array(y_path, np.uint8, ())
    if len(x) != len(y):
        raise damaged_error(y_path, f"has {len(y)} labels for {len(x)} images")
    last = len(load_classes(directory)) - 1
    if y.size and y.max() > last:
        raise damaged_error(y_path, f"contains the label {y.max()}; expected 0 to {last}")
    return x, np.array(y)


def load_image_shape(directory: Path) -> tuple[int, ...]:
    """The shape of an image, (h, w) or (h, w, channels), which is the same in all splits.

    Raises:
        UserError: the file of the training images is missing or damaged, or has no images.
    """
    path = directory / "x_train.npy"
    shape = map_array(path).shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise damaged_error(path, f"has shape {shape}; expected (n, h, w) or (n, h, w, channels)")
    return shape[1:]


def load_classes(directory: Path) -> list[str]:
    """Loads the class names, in the order of the labels.

    Raises:
        UserError: as for `load_array`.
    """
    classes: list[str] = load_array(directory / "classes.npy", np.str_, ()).tolist()
    return classes


def load_array(path: Path, dtype: npt.DTypeLike, item_shape: tuple[int, ...]) -> Array:
    """Memory-maps an array of n items after checking its type, shape and checksum.

    Raises:
        UserError: the file is missing, damaged or changed, or has a different type or shape.
    """
    array = map_array(path)
    expected = f"{np.dtype(dtype)} of shape {('n', *item_shape)}".replace("'", "")
    # issubdtype accepts strings of any length.
    is_expected_type = np.issubdtype(array.dtype, dtype) and array.dtype.isnative
    if not is_expected_type or array.ndim == 0 or array.shape[1:] != item_shape:
        raise damaged_error(path, f"is {array.dtype} of shape {array.shape}; expected {expected}")
    if checksums(path.parent / SUMS).get(path.name) != sha256(path):
        raise damaged_error(path, f"has changed: its SHA-256 is not the one in {SUMS}")
    return array


def map_array(path: Path) -> Array:
    """Memory-maps an array.

    The file is mapped copy-on-write: the array is writable, which DLPack requires, and the file
    never changes.

    Raises:
        UserError: the file is missing or has no valid header.
    """
    try:
        # np.load would also open zip and pickle files.
        return np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run: dvc repro") from None
    except NPY_ERRORS as problem:
        raise damaged_error(path, f"cannot be read ({problem})") from None


def checksums(path: Path) -> dict[str, str]:
    """Reads a SHA256SUMS file: file name to hexadecimal digest.

    Raises:
        UserError: the file is missing or not in this format.
    """
    try:
        lines = path.read_text().splitlines()
        return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run: dvc repro") from None
    except ValueError:
        raise damaged_error(path, "is not a list of checksums") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged_error(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}. Run: rm -r {path.parent} && make repro")
