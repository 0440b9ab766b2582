"""The tutorial's network: what it is, how it is trained, and how it lies on disk.

To train another one, change `architecture`, `build_optimizer` or LOSS; nothing else has to know.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.data.arrays import CLASSES, SIDE
from stages.data.scaling import Scaling
from stages.edges.bad_input import BadInput
from stages.edges.replacing import replacing
from stages.training.repeatable import keras

# Of whole numbers, (b,), and probabilities, (b, 10). Any of Keras's, or a function of both.
LOSS = "sparse_categorical_crossentropy"
# The attribute of a saved network that tells whether the rest of the file is as it was saved.
SUM = "sha256"


def architecture(hidden_units: Sequence[int]) -> Any:
    """From images, (n, 28, 28), to the probabilities of the ten digits, (n, 10)."""
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE)),
            keras.layers.Flatten(),  # (n, 784)
            *(keras.layers.Dense(units, activation="relu") for units in hidden_units),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ],
        name="handwritten_digit",
    )


def build_optimizer(learning_rate: float, schedule: str = "constant", steps: int = 0) -> Any:
    """What trains the network, as the tutorial does.

    Args:
        learning_rate: at the first step.
        schedule: `constant`, or `cosine`: it falls to 0 along half a cosine, as in Loshchilov and
            Hutter, "SGDR: stochastic gradient descent with warm restarts" (ICLR 2017).
        steps: minibatches of the whole training.
    """
    if schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.Adam(learning_rate)


def build_network(hidden_units: Sequence[int], seed: int) -> Any:
    """A network from images to the probabilities of the ten digits, not yet trained.

    Args:
        hidden_units: units of each hidden layer, from the image to the output.
        seed: from 0 to 2**32 - 1; decides the initial weights, and what random layers draw.

    Returns:
        A keras.Model, float32 (n, 28, 28) -> (n, 10). The tutorial's [512, 256, 128]
        has 567,434 parameters.

    Raises:
        BadInput: it has another shape, what it gives are no probabilities, or it has a layer
            that cannot be loaded again once it is saved.
    """
    # From it Keras seeds every initializer and random layer that is given no seed of its own.
    keras.utils.set_random_seed(seed)
    network = architecture(hidden_units)
    check(network, "The network")
    for layer in network.layers:
        refuse_unsavable(layer)
    return network


def check(network: Any, name: str) -> None:
    """Makes sure that a network reads digits.

    Raises:
        BadInput: it has several inputs or outputs, or of another shape, weights that are no finite
            numbers, or a last layer that gives no probabilities; the message names the layer.
    """
    inputs, outputs = getattr(network, "inputs", None), getattr(network, "outputs", None)
    if not inputs or not outputs:
        raise BadInput(f"{name} is a {type(network).__name__}; it must be Sequential or functional")
    for tensors, shape, what in (
        (inputs, (None, SIDE, SIDE), "inputs"),
        (outputs, (None, CLASSES), "outputs"),
    ):
        if [tensor.shape for tensor in tensors] != [shape]:
            found = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in tensors)
            raise BadInput(f"{name} has the {what} {found}; it must have one of shape {shape}")
    for weights in network.weights:
        if not np.isfinite(weights.numpy()).all():
            raise BadInput(f"{name} has weights that are no finite numbers: {weights.path}")
    image = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    (given,) = np.asarray(network(image, training=False), np.float64)  # (10,)
    # 1e-2: in float16.
    if not (given >= 0).all() or abs(given.sum() - 1) > 1e-2:
        raise BadInput(
            f"{name} ends in the layer {network.layers[-1].name}, which gives no probabilities; "
            'it must have activation="softmax"'
        )


def refuse_unsavable(layer: Any) -> None:
    kind = type(layer)
    ours = not kind.__module__.startswith("keras.")
    name = keras.saving.get_registered_name(kind)
    if ours and keras.saving.get_registered_object(name) is not kind:
        raise BadInput(
            f"The layer {layer.name} could not be loaded again: its class {kind.__name__} needs "
            "@keras.saving.register_keras_serializable() above it"
        )
    try:
        kind.from_config(layer.get_config())
    except Exception as problem:  # of any class of the user's
        reason = " ".join(str(problem).split())
        raise BadInput(f"The layer {layer.name} could not be loaded again: {reason:.300}") from None


def save_network(network: Any, scaling: Scaling, path: Path) -> None:
    """Writes a network in the tutorial's format, HDF5, the same bytes for the same weights.

    What it was compiled with goes along, so that whoever loads it can train it on, and so does the
    scaling of its input, as attributes of the file, so that the file alone is enough to read a
    digit.
    """
    # With the optimizer as it was at first: from this format Keras cannot load what it keeps of
    # each weight, twice the size of the weights, and says so at every load.
    optimizer = type(network.optimizer).from_config(network.optimizer.get_config())
    network.compile(optimizer, network.loss, metrics=["accuracy"])
    with replacing(path) as partial:
        network.save(partial)
        with h5py.File(partial, "r+") as file:
            # Its state, none so far: a Keras that loads it would take the optimizer for built.
            file.pop("optimizer_weights", None)
            file.attrs.update({"pixel_offset": scaling.offset, "pixel_divisor": scaling.divisor})
            file.attrs[SUM] = sum_of(file)


def load_network(path: Path) -> tuple[Any, Scaling]:
    """Reads a network that `save_network` wrote, and the scaling of its input.

    Raises:
        BadInput: the file is missing, damaged or changed, or holds another kind of network.
    """
    try:
        with h5py.File(path) as file:
            scaling = Scaling(float(file.attrs["pixel_offset"]), float(file.attrs["pixel_divisor"]))
            unchanged = file.attrs[SUM] == sum_of(file)
        network = load(path) if unchanged else None
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; dvc repro makes it") from None
    except PermissionError:
        raise
    except Exception:  # what a damaged file may raise, HDF5 and Keras do not say
        raise BadInput(
            f"{path} is not a network that this project saved; remove it and run dvc repro"
        ) from None
    if network is None:
        raise BadInput(
            f"{path} has changed since it was saved; "
            f"dvc checkout --force {path} or dvc repro brings it back"
        )
    if not (np.isfinite(scaling).all() and scaling.divisor > 0):
        raise BadInput(f"{path} scales pixels by {scaling}; the divisor must be greater than 0")
    check(network, str(path))
    return network, scaling


def load(path: Path) -> Any:
    # At first without memory for its variables, as the file may describe a network of any size.
    # What does not fit the weights that the file holds raises here.
    try:
        with keras.StatelessScope(initialize_variables=False):
            keras.models.load_model(path, compile=False)
    finally:
        keras.utils.clear_session(free_memory=False)  # or those variables would get memory yet
    return keras.models.load_model(path, compile=False)


def sum_of(file: h5py.File) -> str:
    """The SHA-256 of everything that an HDF5 file holds, but for the sum itself."""
    whole = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        attributes = [
            (key, np.asarray(value).tolist())
            for key, value in sorted(item.attrs.items())
            if (name, key) != ("", SUM)
        ]
        whole.update(repr((name, attributes)).encode())
        if isinstance(item, h5py.Dataset):
            array = item[()]
            whole.update(repr((array.dtype.str, array.shape)).encode() + array.tobytes())

    add("", file)
    file.visititems(add)
    return whole.hexdigest()
