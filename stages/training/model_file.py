"""Saving and loading the trained network as an HDF5 file."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError
from stages.common.params import one_line
from stages.data.scaling import Scaling
from stages.training.definition_checks import DEFINITION
from stages.training.network_checks import NetworkProblem, check_network, raise_for_layer
from stages.training.tensorflow_setup import keras

CHECKSUM = "sha256"  # attribute of the file: SHA-256 of all its other content


def save_network(network: Any, metrics: Sequence[Any], scaling: Scaling, path: Path) -> None:
    """Writes a compiled network in the tutorial's format; the same weights give the same bytes.

    The file includes the optimizer's configuration, so that training can be continued, and the
    scaling of pixels as attributes, so that the file alone is enough to read a digit.
    """
    # A new optimizer without state: Keras cannot load its state from HDF5, and warns at each load.
    optimizer = type(network.optimizer).from_config(network.optimizer.get_config())
    network.compile(optimizer, network.loss, metrics=metrics)
    with atomic_write(path) as partial:
        network.save(partial)
        with h5py.File(partial, "r+") as file:
            # If this group exists, even empty, Keras assumes that the optimizer has its state.
            file.pop("optimizer_weights", None)
            file.attrs.update({"pixel_offset": scaling.offset, "pixel_divisor": scaling.divisor})
            file.attrs[CHECKSUM] = checksum(file)


def check_savable(network: Any, optimizer: Any, loss: Any, metrics: Sequence[Any]) -> None:
    """Saves and loads a network before it is trained, since not everything can be saved.

    Args:
        network: a network that is not compiled. It must be compiled afterwards: Keras's HDF5 writer
            changes a compiled one.
        optimizer: as for `compile`.
        loss: as for `compile`.
        metrics: as for `compile`.

    Raises:
        UserError: it cannot be saved or loaded; the message names the layer.
    """
    raise_for_layer(network, save_and_load)
    try:
        network.compile(optimizer, loss, metrics=metrics)
        with tempfile.TemporaryDirectory() as directory:
            save_network(network, metrics, Scaling(0.0, 1.0), Path(directory) / "network.h5")
    except Exception as problem:  # a user's class may raise anything
        raise UserError(
            f"{DEFINITION}: optimizer(), LOSS or metrics() could not be saved: {reason(problem)}"
        ) from None


def save_and_load(network: Any) -> None:
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "network.h5"
            network.save(path)
            load_model(path)
    except Exception as problem:
        raise NetworkProblem(f"could not be saved and loaded again: {reason(problem)}") from None


def reason(problem: Exception) -> str:
    text = one_line(str(problem))
    if "Unknown layer" in text:
        return "its class needs @keras.saving.register_keras_serializable() above it"
    return f"{text:.300}"


def load_network(path: Path, image_shape: tuple[int, ...], classes: int) -> tuple[Any, Scaling]:
    """Loads a network written by `save_network`, and the scaling of its input.

    Args:
        path: the model file.
        image_shape: shape of the images that it is used for, (h, w) or (h, w, channels).
        classes: their number of classes.

    Raises:
        UserError: the file is missing, damaged or changed, or contains another kind of network, or
            one for other images or classes.
    """
    try:
        with h5py.File(path) as file:
            scaling = Scaling(float(file.attrs["pixel_offset"]), float(file.attrs["pixel_divisor"]))
            unchanged = file.attrs[CHECKSUM] == checksum(file)
        network = load_model(path) if unchanged else None
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run: make repro") from None
    except PermissionError:
        raise
    except Exception:  # HDF5 and Keras document no exceptions for damaged files
        raise UserError(f"{path} is not a network saved by this project. Run: make repro") from None
    if network is None:
        raise UserError(
            f"{path} has changed since it was saved; "
            f"dvc checkout --force {path} or dvc repro brings it back"
        )
    if not (np.isfinite(scaling).all() and scaling.divisor > 0):
        raise UserError(f"{path} scales pixels by {scaling}; expected a divisor greater than 0")
    check_network(network, str(path), image_shape, classes)
    return network, scaling


def load_model(path: Path) -> Any:
    # Load without allocating variables first: a crafted file may declare a huge network. A network
    # that does not fit the file's weights raises here.
    try:
        with keras.StatelessScope(initialize_variables=False):
            keras.models.load_model(path, compile=False)
    finally:
        keras.utils.clear_session(free_memory=False)  # forget these variables before they are built
    return keras.models.load_model(path, compile=False)


def checksum(file: h5py.File) -> str:
    """SHA-256 of all datasets and attributes of an HDF5 file except the checksum itself."""
    sha256 = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        attributes = [
            (key, np.asarray(value).tolist())
            for key, value in sorted(item.attrs.items())
            if (name, key) != ("", CHECKSUM)
        ]
        sha256.update(repr((name, attributes)).encode())
        if isinstance(item, h5py.Dataset):
            array = item[()]
            sha256.update(repr((array.dtype.str, array.shape)).encode() + array.tobytes())

    add("", file)
    file.visititems(add)
    return sha256.hexdigest()
