"""Reading of IDX files, the format of MNIST.

Source: Y. LeCun and C. Cortes, "The MNIST database", section "File formats".
"""

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt


def map_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Memory-maps an IDX file of unsigned bytes.

    Args:
        path: a file of two zero bytes, the type code 0x08, the number of dimensions, each dimension
            as a big-endian 32-bit integer, then the items in C order.

    Returns:
        A read-only uint8 array of the shape in the header.

    Raises:
        ValueError: the header is invalid, or the file has another length than it says.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if len(start) < 4 or start[:3] != b"\x00\x00\x08":
            raise ValueError("not an IDX file of unsigned bytes")
        rank = start[3]
        dimensions = file.read(4 * rank)
    if len(dimensions) < 4 * rank:
        raise ValueError("the IDX header ends early")
    shape = struct.unpack(f">{rank}I", dimensions)
    offset = 4 + 4 * rank
    items = path.stat().st_size - offset
    if items != math.prod(shape):
        raise ValueError(f"the IDX header says {shape}, but {items} bytes follow")
    return np.memmap(path, np.uint8, "r", offset, shape)
