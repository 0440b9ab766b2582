"""Prediction with the same bits on every processor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.training.deterministic_layers import deterministic_layers
from stages.training.tensorflow_setup import tf

BATCH_SIZE = 100


def predictor(network: Any) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Returns a function from images, float32 (n, …), to probabilities, float32 (n, classes).

    It replaces `network.predict`, whose summation order depends on the processor. The first call
    takes half a second longer, for the compilation.
    """

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def predict_batch(images: Any) -> Any:
        with deterministic_layers():
            return network(images, training=False)

    def predict(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        parts = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            # The last batch is padded, so that all have the size that was compiled.
            padded = np.zeros((BATCH_SIZE, *images.shape[1:]), np.float32)
            padded[: len(batch)] = batch
            parts.append(predict_batch(padded).numpy()[: len(batch)])
        return np.concatenate(parts)

    return predict
