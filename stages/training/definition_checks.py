"""Checks of what network.py defines beside the architecture; each error names the definition."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from stages.common.errors import UserError
from stages.common.params import one_line
from stages.training.network_checks import NetworkProblem, check_reproducible
from stages.training.tensorflow_setup import keras, tf

DEFINITION = "stages/training/network.py"
BATCH_METHODS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
)
RESERVED_NAMES = ("step", "split")  # of the points of a curve


def check_list(name: str, value: Any) -> None:
    """Raises UserError unless a function of network.py has returned a list."""
    if not isinstance(value, list):
        raise UserError(f"{DEFINITION}: {name}() returns a {type(value).__name__}; expected a list")


def check_input_files(paths: Any) -> None:
    """Raises UserError unless INPUT_FILES is a tuple of paths."""
    if not isinstance(paths, tuple) or not all(isinstance(path, Path) for path in paths):
        raise UserError(
            f"{DEFINITION}: INPUT_FILES is {paths!r:.80}; expected a tuple of paths, such as "
            '(Path("pretrained.weights.h5"),)'
        )


def check_optimizer(optimizer: Any) -> None:
    """Raises UserError unless it is an optimizer of Keras."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise UserError(
            f"{DEFINITION}: optimizer() returns {optimizer!r:.80}; "
            "expected an object of keras.optimizers"
        )


def resolve_loss(loss: Any) -> Any:
    """The loss, a function or object, that has this name; or the loss itself.

    Raises:
        UserError: it is no loss.
    """
    if loss in ("crossentropy", "ce"):  # which Keras chooses by the labels
        loss = "sparse_categorical_crossentropy"
    try:
        found = keras.losses.get(loss)
    except (TypeError, ValueError):
        found = None
    if isinstance(loss, type) or not isinstance(found, keras.losses.Loss | FunctionType):
        raise UserError(
            f"{DEFINITION}: LOSS is {loss!r:.80}; expected a name, function or object of "
            "keras.losses, or a function of labels and probabilities"
        )
    return found


def check_metrics(network: Any, x: Any, y: Any) -> None:
    """Computes loss and metrics of a compiled network once, which creates their variables.

    Args:
        network: a compiled keras.Model.
        x: images, float32 of shape (n, …).
        y: labels as the loss takes them, of shape (n,) or (n, classes).

    Raises:
        UserError: loss or metrics do not fit the labels, cannot be compiled, have a state that a
            checkpoint cannot save, or one of them is not a single number.
    """
    # With as many images as classes, arrays of wrong shapes might be broadcast without an error.
    images = network.output_shape[-1] + 1
    x, y = x[:images], y[:images]

    def compute(x: Any, y: Any) -> Any:
        probabilities = network(x, training=False)
        network.compute_loss(x, y, probabilities)
        return network.compute_metrics(x, y, probabilities)

    try:
        results = compute(x, y)
        network.reset_metrics()
        program = tf.function(compute, autograph=False).get_concrete_function(x, y)
        check_reproducible(program, [*network.variables, *network.metrics_variables])
    except NetworkProblem as problem:
        raise UserError(f"{DEFINITION}: LOSS or metrics() {problem}") from None
    except Exception as problem:  # a user's function may raise anything
        reason = one_line(str(problem))
        hint = "" if y.ndim > 1 else "; metrics such as AUC need a loss of one-hot labels"
        raise UserError(
            f"{DEFINITION}: LOSS or metrics() cannot be computed of labels {y.shape[1:]} and "
            f"probabilities {network.output_shape[1:]}{hint}: {reason:.300}"
        ) from None
    check_results(results)


def check_results(results: Mapping[str, Any]) -> None:
    """Raises UserError unless metrics are single numbers with usable names, one the accuracy."""
    for name, value in results.items():
        if np.ndim(value):
            raise UserError(
                f"{DEFINITION}: the metric {name} has the shape {np.shape(value)}; "
                "expected a single number, such as an average"
            )
        is_reserved = name in RESERVED_NAMES or name.startswith("val_")
        if is_reserved or not re.fullmatch(r"[\w-]+", name):
            raise UserError(
                f"{DEFINITION}: a metric has the name {name!r}; expected letters, digits, - and _, "
                f"but not {', '.join(RESERVED_NAMES)} or val_…"
            )
    if "accuracy" not in results:
        raise UserError(
            f'{DEFINITION}: metrics() is {list(results)[1:]}; expected also "accuracy", which '
            "studies and reports read"
        )


def check_sample_weight(weights: Any, images: int) -> None:
    """Raises UserError unless there is a finite number for each training image."""
    array = np.asarray(weights)
    if array.shape != (images,) or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise UserError(
            f"{DEFINITION}: sample_weight() returns {array.dtype} of shape {array.shape}; "
            f"expected {images} finite numbers, one for each training image, or None"
        )


def check_callbacks(callbacks: Any) -> None:
    """Checks that callbacks work with compiled epochs and with this stage's checkpoint.

    Raises:
        UserError: one is no callback, has a method for each batch, or restores a state of its own.
    """
    check_list("callbacks", callbacks)
    for callback in callbacks:
        name = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback):
            raise UserError(
                f"{DEFINITION}: callbacks() has a {name}; expected keras.callbacks only"
            )
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise UserError(
                f"{DEFINITION}: callbacks() has a BackupAndRestore, whose file would be an "
                "undeclared dependency; remove it, since a killed training resumes without it"
            )
        for method in BATCH_METHODS:
            if is_called_for_batches(callback, method):
                raise UserError(
                    f"{DEFINITION}: the callback {name} has {method}, but whole epochs are "
                    "compiled, so nothing can be called for each batch; use on_epoch_end"
                )


def is_called_for_batches(callback: Any, method: str) -> bool:
    """Whether a method does anything for a batch.

    Keras's ModelCheckpoint and TensorBoard have such methods, which do nothing if they act once an
    epoch.
    """
    idle = [keras.callbacks.Callback]
    if getattr(callback, "save_freq", None) == "epoch":
        idle.append(keras.callbacks.ModelCheckpoint)
    if getattr(callback, "update_freq", None) == "epoch":
        idle.append(keras.callbacks.TensorBoard)
    own = getattr(type(callback), method)
    return method in vars(callback) or own not in [getattr(kind, method) for kind in idle]
