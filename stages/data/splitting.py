"""Which images are held out, so that every digit gives the same share."""

import numpy as np
import numpy.typing as npt


def held_out(labels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.bool_]:
    """Chooses `count` images to hold out, the same share of each digit.

    Where the shares are no whole numbers, they are rounded by the largest remainder, so that
    they add up to `count`. Of each digit the last images are held out: no chance is involved,
    and a larger split contains every smaller one up to that rounding.

    Args:
        labels: uint8 of shape (n,).
        count: from 0 to n.

    Returns:
        bool of shape (n,), true for the `count` images held out.

    Raises:
        ValueError: `count` is not from 0 to n.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"{count} of {len(labels)} images cannot be held out")
    mask = np.zeros(len(labels), dtype=bool)
    if count == 0:
        return mask
    counts = np.bincount(labels)  # (digits,)
    # Whole numbers throughout: quota = counts * count / n, in parts of 1/n.
    shares, remainders = np.divmod(counts * count, len(labels))
    missing = count - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    for digit, share in enumerate(shares):
        mask[np.flatnonzero(labels == digit)[counts[digit] - share :]] = True
    return mask
