"""A training's state after its last whole epoch, so that a killed one goes on from there."""

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

from stages.data.arrays import UNREADABLE
from stages.edges.replacing import replacing

Array = npt.NDArray[Any]
# RuntimeError: the damage makes a part look encrypted, or packed in a way that zipfile lacks.
DAMAGED = (*UNREADABLE, AttributeError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


class State(NamedTuple):
    """What a training has come to.

    Attributes:
        variables: the weights, what layers keep beside them, and what the optimizer keeps.
        history: for each epoch so far, what Keras reports of it.
    """

    variables: list[Array]
    history: list[dict[str, float]]


class Checkpoint:
    """A file that holds the state of one training, and what that training depends on.

    Args:
        path: of the file.
        dependencies: what the training depends on, by name. A state that was saved with
            others is not used.
    """

    def __init__(self, path: Path, dependencies: Mapping[str, str]) -> None:
        self.path = path
        self.dependencies = dict(dependencies)

    def save(self, state: State) -> None:
        about = json.dumps({"dependencies": self.dependencies, "history": state.history})
        arrays = {f"variable_{place}": array for place, array in enumerate(state.variables)}
        arrays["about"] = np.array(about)
        with replacing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def load(self, like: Sequence[Array], epochs: int) -> State | None:
        """The state to go on from, or None; says why where there is one that cannot be used.

        Args:
            like: the variables of the training that is to go on, as they are at its start.
            epochs: that it is to have in the end.
        """
        try:
            with np.load(self.path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                variables = [file[f"variable_{place}"] for place in range(len(file.files) - 1)]
            state = State(variables, about["history"])
            others = [
                name
                for name, value in self.dependencies.items()
                if about["dependencies"].get(name) != value
            ]
        except FileNotFoundError:
            return None
        except DAMAGED as problem:
            print(f"{self.path} is damaged ({problem}): training starts afresh")
            return None
        if others:
            print(f"{self.path} is of other {' and '.join(others)}: training starts afresh")
            return None
        if wrong := what_is_wrong(state, like, epochs):
            print(f"{self.path} {wrong}: training starts afresh")
            return None
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def what_is_wrong(state: State, like: Sequence[Array], epochs: int) -> str:
    """Why a training with such variables cannot go on from a state; empty where it can."""
    if not isinstance(state.history, list) or not 1 <= len(state.history) <= epochs:
        return f"has no history of 1 to {epochs} epochs"
    for logs in state.history:
        values = list(logs.values()) if isinstance(logs, dict) else []
        if not values or not all(type(value) is float and math.isfinite(value) for value in values):
            return f"has an epoch {logs!r:.60} in its history"
    if len(state.variables) != len(like):
        return f"holds {len(state.variables)} variables instead of {len(like)}"
    for place, (array, expected) in enumerate(zip(state.variables, like, strict=True)):
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            return (
                f"holds a variable {place} of {array.dtype} {array.shape} "
                f"instead of {expected.dtype} {expected.shape}"
            )
        if not np.isfinite(array).all():
            return f"holds a variable {place} that is not finite"
    return ""


def digest(paths: Sequence[Path]) -> str:
    """The SHA-256 of the contents of files, in their order."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
