"""Checkpoint file with the state of a training after its last complete epoch."""

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.common.atomic_write import atomic_write
from stages.data.arrays import NPY_ERRORS, SUMS
from stages.training.callback_state import Attributes, decode, encode
from stages.training.definition_checks import check_input_files
from stages.training.network import INPUT_FILES

Array = npt.NDArray[Any]
# RuntimeError: damage can make an entry look encrypted, or compressed by an unknown method.
DAMAGED = (
    *(*NPY_ERRORS, AttributeError, ImportError, LookupError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error),
)


class InvalidState(ValueError):
    """The state does not fit the training; the message is the end of "checkpoint.npz …"."""


class State(NamedTuple):
    """State of a training.

    Attributes:
        variables: weights, other state of layers, and optimizer state.
        history: Keras's logs of each epoch so far.
        digests: SHA-256 of the network's weights after each epoch so far.
        callbacks: attributes of each callback of the user.
        is_stopped: whether a callback has stopped the training.
    """

    variables: list[Array]
    history: list[dict[str, float]]
    digests: list[str]
    callbacks: list[Attributes]
    is_stopped: bool


class Checkpoint:
    """A file with the state of one training, and with digests of what the training depends on.

    callbacks.SaveCheckpoint saves it after each epoch.

    Args:
        path: path of the file.
        dependencies: the result of `dependencies`. A state that was saved with others is ignored.
    """

    def __init__(self, path: Path, dependencies: Mapping[str, str]) -> None:
        self.path = path
        self.dependencies = dict(dependencies)

    def save(self, state: State) -> None:
        """Replaces the file.

        Raises:
            CannotSave: a callback has an attribute that cannot be saved.
        """
        of_callbacks: list[Array] = []
        seen: set[int] = set()
        about = {
            "dependencies": self.dependencies,
            "history": state.history,
            "digests": state.digests,
            "callbacks": [encode(attributes, of_callbacks, seen) for attributes in state.callbacks],
            "is_stopped": state.is_stopped,
            "variables": len(state.variables),
        }
        arrays = {f"array_{i}": array for i, array in enumerate([*state.variables, *of_callbacks])}
        arrays["about"] = np.array(json.dumps(about))
        with atomic_write(self.path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def load(self, initial: Sequence[Array], epochs: int) -> State | None:
        """The saved state, or None if there is none; prints why a state is ignored.

        Args:
            initial: the training's variables before its first epoch.
            epochs: number of epochs of the whole training.
        """
        try:
            about, state = read(self.path)
            changed = [
                name
                for name, value in self.dependencies.items()
                if about["dependencies"].get(name) != value
            ]
            if changed:
                raise InvalidState(f"was saved with different {', '.join(changed)}")
            validate(state, initial, epochs)
        except FileNotFoundError:
            return None
        except InvalidState as problem:
            reason = str(problem)
        except DAMAGED as problem:
            reason = f"is damaged ({problem})"
        else:
            return state
        print(f"{self.path} {reason}; ignored, training starts at epoch 1")
        return None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Any], State]:
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = [file[f"array_{index}"] for index in range(len(file.files) - 1)]
    count = about["variables"]
    callbacks = [decode(code, arrays[count:]) for code in about["callbacks"]]
    state = State(
        arrays[:count], about["history"], about["digests"], callbacks, about["is_stopped"]
    )
    return about, state


def validate(state: State, initial: Sequence[Array], epochs: int) -> None:
    """Raises InvalidState unless a training with these initial variables can continue."""
    if not isinstance(state.history, list) or not 1 <= len(state.history) <= epochs:
        raise InvalidState(f"has no history of 1 to {epochs} epochs")
    for logs in state.history:
        values = list(logs.values()) if isinstance(logs, dict) else []
        if not values or not all(type(value) is float and math.isfinite(value) for value in values):
            raise InvalidState(f"has the invalid epoch {logs!r:.60} in its history")
    if len(state.variables) != len(initial):
        raise InvalidState(f"has {len(state.variables)} variables; expected {len(initial)}")
    for index, (array, expected) in enumerate(zip(state.variables, initial, strict=True)):
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise InvalidState(
                f"has a variable {index} of {array.dtype} {array.shape}; "
                f"expected {expected.dtype} {expected.shape}"
            )
        if not np.isfinite(array).all():
            raise InvalidState(f"has a variable {index} that is not finite")


def dependencies(data: Path, parameters: str) -> dict[str, str]:
    """What a training depends on, by name: digests of data and code, and the parameters.

    Args:
        data: a directory written by arrays.save_arrays.
        parameters: all parameters that the training reads.
    """
    check_input_files(INPUT_FILES)
    code = [Path("requirements.txt"), *sorted(Path("stages").rglob("*.py")), *INPUT_FILES]
    return {"data": digest([data / SUMS]), "parameters": parameters, "code": digest(code)}


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 of the contents of files, in this order."""
    sha256 = hashlib.sha256()
    for path in paths:
        sha256.update(hashlib.sha256(path.read_bytes()).digest())
    return sha256.hexdigest()
