"""A data set on disk: a folder of .npy files, x_* images and y_* labels, with their checksums.

`numpy.save` writes the same bytes for the same array, and its files can be memory-mapped.
SHA256SUMS, in the format of `sha256sum`, ties the files of a folder together.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.edges.bad_input import BadInput
from stages.edges.replacing import replacing

CLASSES = 10
SIDE = 28
SUMS = "SHA256SUMS"
# What NumPy raises for a damaged file; the last four for a damaged header.
UNREADABLE = (ValueError, EOFError, OSError, TypeError, OverflowError, SyntaxError, TokenError)

Array = npt.NDArray[Any]


def save_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Replaces a folder by one that holds each array as `name`.npy, and their checksums."""
    with replacing(folder) as partial:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        sums = [f"{sha256(partial / f'{name}.npy')}  {name}.npy\n" for name in arrays]
        (partial / SUMS).write_text("".join(sums), newline="\n")


def load_split(folder: Path, split: str, dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """Reads the images and labels of one split, and checks that they are what was saved.

    Args:
        folder: a folder written by `save_arrays`.
        split: train, validation or test.
        dtype: what the images must be, uint8 or float32.

    Returns:
        The images, of that dtype and shape (n, 28, 28), memory-mapped, and the labels,
        uint8 of shape (n,).

    Raises:
        BadInput: a file is missing, damaged, or of another type or shape; there are not as
            many labels as images; a label is no digit; or a checksum does not agree.
    """
    x_path, y_path = folder / f"x_{split}.npy", folder / f"y_{split}.npy"
    x = load_array(x_path, dtype, (SIDE, SIDE))
    y = load_array(y_path, np.uint8, ())
    if len(x) != len(y):
        raise damaged(y_path, f"has {len(y)} labels for {len(x)} images")
    if y.size and y.max() >= CLASSES:
        raise damaged(y_path, f"holds the label {y.max()}; labels go from 0 to {CLASSES - 1}")
    return x, np.array(y)


def load_classes(folder: Path) -> list[str]:
    """Reads what the labels of a folder written by `save_arrays` stand for.

    Raises:
        BadInput: as `load_array`, or there are not as many as there are classes.
    """
    path = folder / "classes.npy"
    classes: list[str] = load_array(path, np.str_, ()).tolist()
    if len(classes) != CLASSES:
        raise damaged(path, f"names {len(classes)} classes, not {CLASSES}")
    return classes


def load_array(path: Path, dtype: npt.DTypeLike, item_shape: tuple[int, ...]) -> Array:
    """Memory-maps one array of n items, and checks its checksum and its items' type and shape.

    The map is copy-on-write: writable for those who ask (DLPack), never to the file.

    Raises:
        BadInput: the file is missing, damaged or of another type or shape.
    """
    try:
        # Not np.load, which opens zip files and pickles too.
        array: Array = np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; dvc repro makes it") from None
    except UNREADABLE as problem:
        raise damaged(path, f"cannot be read ({problem})") from None
    expected = f"{np.dtype(dtype)} of shape {('n', *item_shape)}".replace("'", "")
    # issubdtype, as texts may be of any length.
    same = np.issubdtype(array.dtype, dtype) and array.dtype.isnative
    if not same or array.ndim == 0 or array.shape[1:] != item_shape:
        raise damaged(path, f"holds {array.dtype} of shape {array.shape}, not {expected}")
    if checksums(path.parent / SUMS).get(path.name) != sha256(path):
        raise damaged(path, f"is not what was saved: its SHA-256 is not the one in {SUMS}")
    return array


def checksums(path: Path) -> dict[str, str]:
    """Reads a SHA256SUMS file: file name to hexadecimal digest."""
    try:
        lines = path.read_text().splitlines()
        return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; dvc repro makes it") from None
    except ValueError:
        raise damaged(path, "is no list of checksums") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path, problem: str) -> BadInput:
    return BadInput(f"{path} {problem}; remove {path.parent} and run dvc repro")
