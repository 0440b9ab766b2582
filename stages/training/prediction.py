"""What a network says of images, with the same bits on every processor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.training.layers import layers_for_xla
from stages.training.repeatable import tf

# Images of a batch; what is left is filled up, so that one program does for any number of them.
BATCH = 100


def predictor(network: Any) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """A function from images, float32 of shape (n, …), to probabilities, float32 (n, classes).

    Not `network.predict`: the order in which that adds up is not the same on every processor. The
    first call takes half a second more, to compile.
    """

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def of_batch(images: Any) -> Any:
        with layers_for_xla():
            return network(images, training=False)

    def predict(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        parts = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            filled = np.zeros((BATCH, *images.shape[1:]), np.float32)
            filled[: len(batch)] = batch
            parts.append(of_batch(filled).numpy()[: len(batch)])
        return np.concatenate(parts)

    return predict
