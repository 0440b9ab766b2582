"""State of Keras callbacks, to be saved in a checkpoint as JSON and arrays."""

import importlib
from operator import attrgetter
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from stages.training.tensorflow_setup import keras

SET_BY_KERAS = ("_model", "params")
# Objects of these types have no state of their own.
IMMUTABLE = (
    *(FunctionType, BuiltinFunctionType, np.ufunc, type, PurePath),
    keras.optimizers.schedules.LearningRateSchedule,
)

Attributes = dict[str, Any]


class CannotSave(TypeError):
    """A value has a type that a checkpoint cannot save."""


def attributes(callback: Any, initial: Attributes) -> Attributes:
    """The attributes of a callback that make up its state.

    Args:
        callback: a keras.callbacks.Callback.
        initial: its attributes at the start of the training. Of these, functions and other
            immutable objects are left out, since the next training has them as well.
    """
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in SET_BY_KERAS
        and not (isinstance(value, IMMUTABLE) and value is initial.get(name))
    }


def encode(value: Any, arrays: list[Any]) -> Any:
    """Encodes a value as JSON; its arrays are appended to `arrays`.

    Raises:
        CannotSave: the value is not None, a number, a text, an array, a function that can be
            imported, or a list, tuple or dictionary of these.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return {type(value).__name__: [encode(item, arrays) for item in value]}
    if type(value) is dict:
        return {"dict": [[encode(item, arrays) for item in pair] for pair in value.items()]}
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        arrays.append(np.asarray(value))
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(arrays) - 1}
    if isinstance(value, FunctionType):
        code = {"function": [value.__module__, value.__qualname__]}
        if is_importable(value):
            return code
    raise CannotSave(type(value).__name__)


def decode(code: Any, arrays: list[Any]) -> Any:
    """The value that `encode` has encoded."""
    if not isinstance(code, dict):
        return code
    ((kind, content),) = code.items()
    match kind:
        case "list" | "tuple":
            items = [decode(item, arrays) for item in content]
            return items if kind == "list" else tuple(items)
        case "dict":
            return {decode(key, arrays): decode(value, arrays) for key, value in content}
        case "array":
            return arrays[content]
        case "scalar":
            return arrays[content][()]
        case "function":
            return import_function(*content)
    raise ValueError(f"has the unknown kind {kind!r:.40} in the state of a callback")


def import_function(module: str, name: str) -> Any:
    return attrgetter(name)(importlib.import_module(module))


def is_importable(function: FunctionType) -> bool:
    try:
        return import_function(function.__module__, function.__qualname__) is function
    except (ImportError, AttributeError):  # a lambda, or defined in another function
        return False
