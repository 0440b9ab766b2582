"""Keras callbacks of the stage train: divergence, checkpoint, history and progress."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from stages.common.command_line import raise_if_signalled
from stages.common.errors import UserError
from stages.common.progress import Progress
from stages.training.checkpoint import Checkpoint, State
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

    Attributes:
        history: Keras's logs of each epoch so far, including those before a restart.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.history: list[dict[str, float]] = []

    def resume(self, model: Any, epochs: int) -> None:
        """Restores the saved state, if there is a valid one.

        Args:
            model: a CompiledEpoch.
            epochs: number of epochs of the whole training.
        """
        state = self.checkpoint.load(values(model), epochs)
        if state:
            for variable, value in zip(variables(model), state.variables, strict=True):
                variable.assign(value)
            self.history = state.history

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        self.history.append({name: float(value) for name, value in logs.items()})
        self.checkpoint.save(State(values(self.model), self.history))
        raise_if_signalled()


def variables(model: Any) -> list[Any]:
    """All variables that training changes: weights, other state of layers, optimizer state."""
    return [*model.network.variables, *model.optimizer.variables]


def values(model: Any) -> list[npt.NDArray[Any]]:
    return [variable.numpy() for variable in variables(model)]


class WriteHistory(keras.callbacks.Callback):  # type: ignore[misc]
    """Passes the logs of each epoch to a function.

    It must follow SaveCheckpoint: an epoch in the history is then also in the checkpoint.
    """

    def __init__(self, log: Callable[[Mapping[str, float]], None]) -> None:
        super().__init__()
        self.log = log

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        self.log(logs)


class ShowProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a progress bar, or prints a line for each epoch."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__()
        self.progress, self.epochs = progress, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.progress.advance(1)
        self.progress.step(
            f"epoch {epoch + 1}/{self.epochs}: loss {logs['loss']:.4f}, "
            f"accuracy {logs['accuracy']:.4f}, val_loss {logs['val_loss']:.4f}, "
            f"val_accuracy {logs['val_accuracy']:.4f}"
        )
