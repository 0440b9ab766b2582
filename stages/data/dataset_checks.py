"""Checks of an entry of DATASETS and of the arrays that it gives."""

from collections.abc import Mapping

import numpy as np

from stages.common.errors import UserError
from stages.data.datasets import DATASETS, UInt8

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")


def check_entry(name: str) -> None:
    """Checks an entry of DATASETS.

    Raises:
        UserError: it has neither files nor a function, or both, or its class names are invalid.
    """
    entry = DATASETS[name]
    if bool(entry.files) == bool(entry.load):
        found = "both files and load" if entry.load else "neither files nor load"
        raise entry_error(name, f"has {found}; expected one of them")
    names = {each for each in entry.classes if isinstance(each, str)}
    if len(names) != len(entry.classes) or not 2 <= len(names) <= 256:
        raise entry_error(name, f"has the classes {entry.classes}; expected 2 to 256 unique names")


def checked_arrays(name: str, arrays: Mapping[str, UInt8]) -> dict[str, UInt8]:
    """Checks the arrays of a data set against its entry.

    Args:
        name: of the data set.
        arrays: as described at `DataSet.load`.

    Returns:
        The arrays, by name, as NumPy's.

    Raises:
        UserError: an array is missing, or has another type, shape, length or label than the entry
            says.
    """
    entry = DATASETS[name]
    if not isinstance(arrays, Mapping) or set(arrays) != set(ARRAY_NAMES):
        is_mapping = isinstance(arrays, Mapping)
        found = ", ".join(map(str, arrays)) if is_mapping else f"a {type(arrays).__name__}"
        raise entry_error(name, f"gives {found}; expected a dictionary of {', '.join(ARRAY_NAMES)}")
    result = {key: np.asanyarray(arrays[key]) for key in ARRAY_NAMES}
    image_shape = result["x_train"].shape[1:]
    is_image = len(image_shape) in (2, 3)
    for key, array in result.items():
        shape = (image_shape if is_image else ("h", "w")) if key.startswith("x") else ()
        if array.dtype != np.uint8 or array.shape[1:] != shape or not array.size:
            expected = str(("n", *shape)).replace("'", "")
            raise entry_error(
                name,
                f"gives {key} as {array.dtype} of shape {array.shape}; "
                f"expected uint8 of shape {expected}",
            )
    first, last = entry.first_label, entry.first_label + len(entry.classes) - 1
    for split, images in (("train", entry.training_images), ("test", len(result["x_test"]))):
        x, y = result[f"x_{split}"], result[f"y_{split}"]
        if not len(x) == len(y) == images:
            found = f"{len(x)} images and {len(y)} labels in {split}"
            raise entry_error(name, f"gives {found}; expected {images}")
        if y.min() < first or y.max() > last:
            raise entry_error(
                name, f"gives labels from {y.min()} to {y.max()}; expected {first} to {last}"
            )
    return result


def entry_error(name: str, problem: str) -> UserError:
    return UserError(f'stages/data/datasets.py: DATASETS["{name}"] {problem}')
