"""Types of the arrays that represent pictures."""

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
# Connected components numbered from 1; 0 elsewhere.
Labels = npt.NDArray[np.int32]
