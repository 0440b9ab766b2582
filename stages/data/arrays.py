"""Data sets on disk: directories of .npy files and their checksums.

`numpy.save` writes the same bytes for the same array, and .npy files can be memory-mapped. Images
are x_SPLIT.npy, labels y_SPLIT.npy. SHA256SUMS has the format of the command `sha256sum`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError

CLASSES = 10
SIDE = 28
SUMS = "SHA256SUMS"
# Exceptions of NumPy for a damaged file; the last four come from a damaged header.
UNREADABLE = (ValueError, EOFError, OSError, TypeError, OverflowError, SyntaxError, TokenError)

Array = npt.NDArray[Any]


def save_arrays(directory: Path, arrays: Mapping[str, Array]) -> None:
    """Writes each array as NAME.npy, and their checksums, into a directory that is replaced."""
    with atomic_write(directory) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        sums = [f"{sha256(partial / f'{name}.npy')}  {name}.npy\n" for name in arrays]
        (partial / SUMS).write_text("".join(sums), newline="\n")


def load_split(directory: Path, split: str, dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """Loads and validates the images and labels of one split.

    Args:
        directory: a directory written by `save_arrays`.
        split: train, validation or test.
        dtype: the expected type of the images, uint8 or float32.

    Returns:
        Images of this dtype and shape (n, 28, 28), memory-mapped, and labels, uint8 of shape (n,).

    Raises:
        UserError: a file is missing, damaged or changed, or has another type or shape, or the
            labels do not fit the images.
    """
    x_path, y_path = directory / f"x_{split}.npy", directory / f"y_{split}.npy"
    x = load_array(x_path, dtype, (SIDE, SIDE))
    y = load_array(y_path, np.uint8, ())
    if len(x) != len(y):
        raise damaged(y_path, f"has {len(y)} labels for {len(x)} images")
    if y.size and y.max() >= CLASSES:
        raise damaged(y_path, f"contains the label {y.max()}; expected 0 to {CLASSES - 1}")
    return x, np.array(y)


def load_classes(directory: Path) -> list[str]:
    """Loads the class names, in the order of the labels.

    Raises:
        UserError: as for `load_array`, or the number of classes is wrong.
    """
    path = directory / "classes.npy"
    classes: list[str] = load_array(path, np.str_, ()).tolist()
    if len(classes) != CLASSES:
        raise damaged(path, f"has {len(classes)} class names; expected {CLASSES}")
    return classes


def load_array(path: Path, dtype: npt.DTypeLike, item_shape: tuple[int, ...]) -> Array:
    """Memory-maps an array of n items after checking its type, shape and checksum.

    The map is copy-on-write: it counts as writable, as DLPack demands, and the file stays as it is.

    Raises:
        UserError: the file is missing, damaged or changed, or has another type or shape.
    """
    try:
        # np.load would also open zip and pickle files.
        array: Array = np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; dvc repro makes it") from None
    except UNREADABLE as problem:
        raise damaged(path, f"cannot be read ({problem})") from None
    expected = f"{np.dtype(dtype)} of shape {('n', *item_shape)}".replace("'", "")
    # issubdtype accepts strings of any length.
    is_expected_type = np.issubdtype(array.dtype, dtype) and array.dtype.isnative
    if not is_expected_type or array.ndim == 0 or array.shape[1:] != item_shape:
        raise damaged(path, f"is {array.dtype} of shape {array.shape}; expected {expected}")
    if checksums(path.parent / SUMS).get(path.name) != sha256(path):
        raise damaged(path, f"has changed: its SHA-256 is not the one in {SUMS}")
    return array


def checksums(path: Path) -> dict[str, str]:
    """Reads a SHA256SUMS file: file name to hexadecimal digest.

    Raises:
        UserError: the file is missing or has another format.
    """
    try:
        lines = path.read_text().splitlines()
        return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    except FileNotFoundError:
        raise UserError(f"{path} is missing; dvc repro makes it") from None
    except ValueError:
        raise damaged(path, "is not a list of checksums") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}; remove {path.parent} and run make repro")
