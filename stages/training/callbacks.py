"""Keras callbacks of the stage train: divergence, checkpoint and progress."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from stages.common.command_line import raise_if_signalled
from stages.common.errors import UserError
from stages.common.progress import Progress
from stages.training.callback_state import (
    Attributes,
    CannotSave,
    attributes,
    encode,
    restore,
)
from stages.training.checkpoint import Checkpoint, State
from stages.training.definition_checks import DEFINITION
from stages.training.tensorflow_setup import keras


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

    It must follow the callbacks whose state it saves. If their state cannot be saved, it says so
    and saves nothing: a killed training then starts again at epoch 1.

    Args:
        checkpoint: the file.
        callbacks: the callbacks whose state it saves.

    Attributes:
        history: Keras's logs of each epoch so far, including those before a restart.
        digests: SHA-256 of the network's weights after each of these epochs.
        saved: the state to be restored, or None.
        initial: attributes of each callback at the start of the training.
        is_saving: whether the state can be saved.
    """

    def __init__(self, checkpoint: Checkpoint, callbacks: Sequence[Any]) -> None:
        super().__init__()
        self.checkpoint, self.callbacks = checkpoint, callbacks
        self.history: list[dict[str, float]] = []
        self.digests: list[str] = []
        self.saved: State | None = None
        self.initial: list[Attributes] = []
        self.is_saving = True

    def load(self, network: Any, epochs: int) -> int:
        """Loads the saved state, if there is a valid one; the start of `fit` restores it.

        Args:
            network: a keras.Model with all its variables and those of its optimizer.
            epochs: number of epochs of the whole training.

        Returns:
            The number of epochs not to be trained again: `epochs` if a callback had stopped the
            training.
        """
        self.saved = self.checkpoint.load(values(network), epochs)
        if not self.saved:
            return 0
        self.history, self.digests = self.saved.history, self.saved.digests
        print(f"Resuming after epoch {len(self.history)} ({self.checkpoint.path})")
        return epochs if self.saved.is_stopped else len(self.history)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        # The callbacks' own on_train_begin has run before: it sets their initial state.
        self.initial = [dict(vars(callback)) for callback in self.callbacks]
        if self.saved:
            for variable, value in zip(variables(self.model), self.saved.variables, strict=True):
                variable.assign(value)
            for callback, state in zip(self.callbacks, self.saved.callbacks, strict=True):
                restore(callback, state)
        self.stop_saving_if_impossible()

    def stop_saving_if_impossible(self) -> None:
        seen: set[int] = set()
        for callback, initial in zip(self.callbacks, self.initial, strict=True):
            for name, value in attributes(callback, initial).items():
                try:
                    encode(value, [], seen)
                except CannotSave as problem:
                    self.is_saving = False
                    self.checkpoint.remove()
                    print(
                        f"{type(callback).__name__}.{name} {problem}, which no checkpoint can "
                        "save: a killed training starts again at epoch 1"
                    )
                    return

    def on_epoch_end(self, _: int, logs: dict[str, Any]) -> None:
        self.history.append({name: log_value(name, value) for name, value in logs.items()})
        self.digests.append(weights_digest(self.model))
        if self.is_saving:
            self.stop_saving_if_impossible()
        if self.is_saving:
            self.checkpoint.save(
                State(
                    values(self.model),
                    self.history,
                    self.digests,
                    [attributes(*pair) for pair in zip(self.callbacks, self.initial, strict=True)],
                    self.model.stop_training,
                )
            )
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
        for epoch in range(len(self.digests), 0, -1):
            if self.digests[epoch - 1] == digest:
                return epoch, self.history[epoch - 1]
        results = network.evaluate(validation, return_dict=True, verbose=0)
        validated = {f"val_{name}": value for name, value in results.items()}
        return len(self.history), self.history[-1] | validated


def log_value(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(
            f"{DEFINITION}: a callback adds {name} = {value!r:.80} to the logs; expected a number"
        ) from None


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
    """Shows a progress bar, or prints a line for each epoch.

    Args:
        progress: the bar.
        epochs: number of epochs of the whole training.
        metrics: names of the metrics that are shown.
    """

    def __init__(self, progress: Progress, epochs: int, metrics: Sequence[str]) -> None:
        super().__init__()
        self.progress, self.epochs = progress, epochs
        self.names = [*metrics, *(f"val_{name}" for name in metrics)]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.progress.advance(1)
        figures = ", ".join(f"{name} {logs[name]:.4f}" for name in self.names)
        self.progress.step(f"epoch {epoch + 1}/{self.epochs}: {figures}")
