"""Keras callbacks of the stage train, and the checks of the user's callbacks."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from stages.common.command_line import raise_if_signalled
from stages.common.errors import UserError
from stages.common.progress import Progress
from stages.training.callback_state import Attributes, CannotSave, attributes, encode
from stages.training.checkpoint import Checkpoint, State
from stages.training.history import metric_names
from stages.training.tensorflow_setup import keras

NETWORK = "stages/training/network.py"
BATCH_METHODS = (
    *("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end"),
    *("on_test_batch_begin", "on_test_batch_end"),
)


class StopAtDivergence(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises UserError when a loss is not finite.

    It must be the first callback, so that a diverged state is not saved.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs[name]):
                raise UserError(
                    f"train: {name} is {logs[name]} after epoch {epoch + 1}, so training stops; "
                    f"try a train.learning_rate below {self.learning_rate:g}, "
                    "or normalize.scaling standard"
                )


class SaveCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the state of the training after each epoch, and restores it.

    It must follow the user's callbacks, whose state it saves. If their state cannot be saved, it
    says so and saves nothing: a killed training then starts again at epoch 1.

    Args:
        checkpoint: the file.
        callbacks: the user's callbacks.

    Attributes:
        history: Keras's logs of each epoch so far, including those before a restart.
        weights: SHA-256 of the network's weights after each of these epochs.
    """

    def __init__(self, checkpoint: Checkpoint, callbacks: Sequence[Any]) -> None:
        super().__init__()
        self.checkpoint, self.callbacks = checkpoint, callbacks
        self.is_saving = True
        self.history: list[dict[str, float]] = []
        self.weights: list[str] = []
        self.restored: list[Attributes] = []

    def resume(self, network: Any, epochs: int) -> int:
        """Restores the saved state, if there is a valid one.

        Args:
            network: a keras.Model with all its variables and those of its optimizer.
            epochs: number of epochs of the whole training.

        Returns:
            The number of epochs not to be trained again: `epochs` if a callback had stopped the
            training.
        """
        state = self.checkpoint.load(values(network), epochs)
        if not state:
            return 0
        print(f"Resuming after epoch {len(state.history)} ({self.checkpoint.path})")
        for variable, value in zip(variables(network), state.variables, strict=True):
            variable.assign(value)
        self.history, self.weights = state.history, state.weights
        self.restored = state.callbacks
        return epochs if state.is_stopped else len(self.history)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        # The callbacks' own on_train_begin has run before: it resets their state.
        self.initial = [dict(vars(callback)) for callback in self.callbacks]
        for callback, state in zip(self.callbacks, self.restored, strict=False):
            vars(callback).update(state)
        self.check_savable()

    def check_savable(self) -> None:
        """Stops saving, with a line, if an attribute of a callback cannot be saved."""
        for callback, initial in zip(self.callbacks, self.initial, strict=True):
            for name, value in attributes(callback, initial).items():
                try:
                    encode(value, [])
                except CannotSave as kind:
                    self.is_saving = False
                    self.checkpoint.remove()
                    print(
                        f"{type(callback).__name__}.{name} has the type {kind}, which no "
                        "checkpoint can save: a killed training starts again at epoch 1"
                    )
                    return

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        self.history.append({name: float(value) for name, value in logs.items()})
        self.weights.append(weights_digest(self.model))
        states = [attributes(*pair) for pair in zip(self.callbacks, self.initial, strict=True)]
        state = State(
            values(self.model), self.history, self.weights, states, self.model.stop_training
        )
        if self.is_saving:
            self.check_savable()
        if self.is_saving:
            self.checkpoint.save(state)
        raise_if_signalled()

    def epoch_of_weights(self, network: Any, validation: Any) -> tuple[int, dict[str, float]]:
        """The epoch whose weights a trained network has, counted from 1, and its logs.

        A callback may have restored the best weights. If the weights are those of no epoch, for
        example averages, these are the logs of the last epoch, but validated again.

        Args:
            network: the network after `fit`.
            validation: the tf.data.Dataset for validation.
        """
        digest = weights_digest(network)
        for epoch in range(len(self.weights), 0, -1):
            if self.weights[epoch - 1] == digest:
                return epoch, self.history[epoch - 1]
        results = network.evaluate(validation, return_dict=True, verbose=0)
        validated = {f"val_{name}": value for name, value in results.items()}
        return len(self.history), self.history[-1] | validated


def variables(network: Any) -> list[Any]:
    """All variables that training changes: weights, other state of layers, optimizer state."""
    return [*network.variables, *network.optimizer.variables]


def values(network: Any) -> list[npt.NDArray[Any]]:
    return [variable.numpy() for variable in variables(network)]


def weights_digest(network: Any) -> str:
    sha256 = hashlib.sha256()
    for array in network.get_weights():
        sha256.update(array.tobytes())
    return sha256.hexdigest()


class ShowProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a progress bar, or prints a line for each epoch."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__()
        self.progress, self.epochs = progress, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.progress.advance(1)
        names = metric_names(logs)
        figures = [f"{name} {logs[name]:.4f}" for name in (*names, *(f"val_{n}" for n in names))]
        self.progress.step(f"epoch {epoch + 1}/{self.epochs}: {', '.join(figures)}")


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Checks that callbacks work with compiled epochs and with this stage's checkpoint.

    Raises:
        UserError: one is no callback, has a method for each batch, or restores a state of its own.
    """
    for callback in callbacks:
        name = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback):
            raise UserError(f"{NETWORK}: callbacks() has a {name}; expected keras.callbacks only")
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise UserError(
                f"{NETWORK}: callbacks() has a BackupAndRestore, whose file is not a dependency; "
                "remove it, since a killed training resumes without it"
            )
        for method in BATCH_METHODS:
            if is_called_for_batches(callback, method):
                raise UserError(
                    f"{NETWORK}: the callback {name} has {method}, but whole epochs are compiled, "
                    "so nothing can be called for each batch; use on_epoch_end"
                )


def is_called_for_batches(callback: Any, method: str) -> bool:
    """Whether a method does anything for a batch."""
    idle = [keras.callbacks.Callback]
    if getattr(callback, "save_freq", None) == "epoch":
        idle.append(keras.callbacks.ModelCheckpoint)
    if getattr(callback, "update_freq", None) == "epoch":
        idle.append(keras.callbacks.TensorBoard)
    own = getattr(type(callback), method)
    return method in vars(callback) or own not in [getattr(kind, method) for kind in idle]
