"""State of Keras callbacks, to be saved in a checkpoint as JSON and arrays."""

import importlib
from operator import attrgetter
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from stages.training.tensorflow_setup import keras

SET_BY_KERAS = ("_model", "params")
IMMUTABLE = (
    BuiltinFunctionType,
    np.ufunc,
    type,
    PurePath,
    keras.optimizers.schedules.LearningRateSchedule,
)

Attributes = dict[str, Any]


class CannotSave(TypeError):
    """A value cannot be saved; the message says why."""


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
        if name not in SET_BY_KERAS and not (is_stateless(value) and value is initial.get(name))
    }


def restore(callback: Any, state: Attributes) -> None:
    """Gives a callback the attributes of `attributes`, and no others."""
    for name, value in list(vars(callback).items()):
        if name not in SET_BY_KERAS and not is_stateless(value):
            del vars(callback)[name]
    vars(callback).update(state)


def is_stateless(value: Any) -> bool:
    """Whether a value cannot change. A function can if it uses a list of another function."""
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return all(is_number_or_text(cell) or is_stateless(cell) for cell in cells)
    return isinstance(value, IMMUTABLE)


def is_number_or_text(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def encode(value: Any, arrays: list[Any], seen: set[int]) -> Any:
    """Encodes a value as JSON.

    Args:
        value: None, a number, a text, an array, a function that can be imported, or a list, tuple
            or dictionary of these.
        arrays: its arrays are appended to this list.
        seen: the ids of lists, dictionaries and arrays that have been encoded.

    Raises:
        CannotSave: the value has another type, or a part of it was encoded before: two attributes
            that are one object would become two.
    """
    if is_number_or_text(value):
        return value
    if type(value) is tuple:
        return {"tuple": [encode(item, arrays, seen) for item in value]}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        arrays.append(np.asarray(value))
        return {"scalar": len(arrays) - 1}
    if isinstance(value, FunctionType) and is_importable(value):
        return {"function": [value.__module__, value.__qualname__]}
    if id(value) in seen:
        raise CannotSave(f"shares a {type(value).__name__} with another attribute")
    seen.add(id(value))
    if type(value) is list:
        return {"list": [encode(item, arrays, seen) for item in value]}
    if type(value) is dict:
        return {"dict": [[encode(item, arrays, seen) for item in pair] for pair in value.items()]}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        arrays.append(value)
        return {"array": len(arrays) - 1}
    raise CannotSave(f"has the type {type(value).__name__}")


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
