"""Labels in the form that a loss takes: integers, or one-hot vectors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.training.definition_checks import resolve_loss
from stages.training.tensorflow_setup import keras

BASES = {"Loss", "LossFunctionWrapper", "KerasSaveable"}  # classes of all losses


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
    found = resolve_loss(loss)
    kinds = type(found).__mro__ if isinstance(found, keras.losses.Loss) else [found]
    names = {kind.__name__ for kind in kinds if kind.__module__.startswith("keras.")} - BASES
    if not names:  # a custom loss
        return True
    return any("sparse" in name.lower() for name in names)
