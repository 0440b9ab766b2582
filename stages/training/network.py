"""The tutorial's network: what it is, and how it lies on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from stages.data.arrays import CLASSES, SIDE
from stages.data.scaling import Scaling
from stages.edges.bad_input import BadInput
from stages.edges.replacing import replacing
from stages.training.repeatable import keras


def build_network(hidden_units: Sequence[int], seed: int) -> Any:
    """A multilayer perceptron from images to the probabilities of the ten digits.

    Args:
        hidden_units: units of each hidden layer, from the image to the output.
        seed: from 0 to 2**32 - 1; decides the initial weights, and what random layers draw.

    Returns:
        A keras.Sequential, float32 (n, 28, 28) -> (n, 10). The tutorial's [512, 256, 128]
        has 567,434 parameters.
    """
    # From it Keras seeds every initializer and random layer that is given no seed of its own.
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE)),
            keras.layers.Flatten(),  # (n, 784)
            *(keras.layers.Dense(units, activation="relu") for units in hidden_units),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ],
        name="handwritten_digit",
    )


def save_network(network: Any, scaling: Scaling, path: Path) -> None:
    """Writes a network in the tutorial's format, HDF5, the same bytes for the same weights.

    The scaling it was trained with goes along, as attributes of the file, so that the file
    alone is enough to read a digit.
    """
    # Whoever loads it can evaluate it or train it on at once, as in the tutorial.
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    with replacing(path) as partial:
        network.save(partial)
        with h5py.File(partial, "r+") as file:
            file.attrs.update({"pixel_offset": scaling.offset, "pixel_divisor": scaling.divisor})


def load_network(path: Path) -> tuple[Any, Scaling]:
    """Reads a network that `save_network` wrote, and the scaling of its input.

    Raises:
        BadInput: the file is missing, damaged, or another kind of network.
    """
    try:
        with h5py.File(path) as file:
            scaling = Scaling(float(file.attrs["pixel_offset"]), float(file.attrs["pixel_divisor"]))
        network = keras.models.load_model(path, compile=False)
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; dvc repro makes it") from None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        raise BadInput(
            f"{path} is not a network that this project saved; remove it and run dvc repro"
        ) from None
    if network.input_shape != (None, SIDE, SIDE) or network.output_shape != (None, CLASSES):
        raise BadInput(f"{path} maps {network.input_shape} to {network.output_shape}, not digits")
    return network, scaling
