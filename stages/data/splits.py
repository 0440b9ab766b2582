"""Stratified split of a data set."""

import numpy as np
import numpy.typing as npt


def stratified_mask(labels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.bool_]:
    """Selects `count` images, the same share of each class.

    Shares that are not integers are rounded by the largest remainder method, so that they add up to
    `count`. The last images of each class are selected: the choice needs no random numbers, and a
    larger selection contains a smaller one except for the rounding.

    Args:
        labels: uint8 of shape (n,).
        count: from 0 to n.

    Returns:
        bool of shape (n,), true for the selected images.

    Raises:
        ValueError: `count` is not from 0 to n.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot select {count} of {len(labels)} images")
    mask = np.zeros(len(labels), dtype=bool)
    if count == 0:
        return mask
    class_sizes = np.bincount(labels)  # (classes,)
    # Integer arithmetic: a class's exact share is class_size * count / n.
    shares, remainders = np.divmod(class_sizes * count, len(labels))
    missing = count - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    for label, share in enumerate(shares):
        mask[np.flatnonzero(labels == label)[class_sizes[label] - share :]] = True
    return mask
