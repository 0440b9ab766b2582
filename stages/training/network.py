"""The network, and how it is trained: edit this file to train another one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.training.tensorflow_setup import keras

# A loss of Keras, or a function of integer labels, (b,), and probabilities, (b, classes).
LOSS = "sparse_categorical_crossentropy"
# Files that this module reads, such as pretrained weights. They must be in dvc.yaml, too.
INPUT_FILES: tuple[Path, ...] = ()


def architecture(hidden_units: Sequence[int], image_shape: tuple[int, ...], classes: int) -> Any:
    """A network from images, (n, *image_shape), to the probabilities of classes, (n, classes).

    Args:
        hidden_units: units of each hidden layer, first to last.
        image_shape: (h, w) or (h, w, channels).
        classes: number of classes.
    """
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            *(keras.layers.Dense(units, activation="relu") for units in hidden_units),
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name="handwritten_digit",
    )


def optimizer(learning_rate: float, schedule: str = "constant", steps: int = 0) -> Any:
    """The tutorial's optimizer, Adam.

    Args:
        learning_rate: at the first step.
        schedule: `constant`, or `cosine`, which decays to 0 along half a cosine. Source:
            I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts"
            (ICLR 2017).
        steps: number of batches of the whole training.
    """
    if schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.Adam(learning_rate)


def metrics() -> list[Any]:
    """A list of metrics for Keras's `compile`: names or objects. Accuracy is needed."""
    return ["accuracy"]


def callbacks() -> list[Any]:
    """A list of callbacks for Keras's `fit`. They can act after epochs, but not after batches."""
    return []


def sample_weight(labels: Any) -> Any:  # noqa: ARG001
    """Weights of the training images in the loss, (n,), or None, given their labels, (n,)."""
    return None
