"""Labels in the form that a loss takes: integers, or one-hot vectors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import UserError
from stages.training.tensorflow_setup import keras


def encode_labels(labels: npt.NDArray[np.uint8], classes: int, loss: Any) -> npt.NDArray[Any]:
    """Encodes labels for a loss.

    Args:
        labels: integers of shape (n,), from 0 to classes - 1.
        classes: number of classes.
        loss: a name, function or object, as for Keras's `compile`.

    Returns:
        One-hot vectors, float32 of shape (n, classes), for a loss of Keras that compares vectors.
        Otherwise integers, int32 of shape (n,).

    Raises:
        UserError: Keras has no loss of this name.
    """
    if takes_integers(loss):
        return labels.astype(np.int32)
    return np.eye(classes, dtype=np.float32)[labels]


def takes_integers(loss: Any) -> bool:
    """Whether a loss takes integer labels: a custom loss, or one of Keras's sparse losses."""
    if loss in ("crossentropy", "ce"):  # Keras chooses the loss by the labels
        return True
    try:
        loss = keras.losses.get(loss)
    except ValueError:
        raise UserError(
            f"stages/training/network.py: LOSS is {loss!r:.80}; expected a loss of keras.losses, "
            "or a function of labels and probabilities"
        ) from None
    kinds = type(loss).__mro__ if isinstance(loss, keras.losses.Loss) else [loss]
    names = [
        kind.__name__
        for kind in kinds
        if kind.__module__.startswith("keras.") and kind.__name__ != "Loss"
    ]
    is_custom = not set(names) - {"LossFunctionWrapper", "KerasSaveable"}
    return is_custom or any("sparse" in name.lower() for name in names)
