"""What happens after each epoch of a training."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from stages.edges.bad_input import BadInput
from stages.edges.progress import Progress
from stages.training.checkpoint import Checkpoint, State
from stages.training.repeatable import keras


class StopAtDivergence(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises BadInput as soon as a loss is no finite number. The first of the callbacks."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate  # at the first step; a schedule may have it fall to 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs[name]):
                raise BadInput(
                    f"train: {name} is {logs[name]} after epoch {epoch + 1}, so training stops; "
                    f"try a train.learning_rate below {self.learning_rate:g}, "
                    "or normalize.scaling standard"
                )


class SaveCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the state of the training, and goes on from a saved one.

    Attributes:
        history: for each epoch so far, also of a training that was killed, what Keras reports.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.history: list[dict[str, float]] = []

    def resume(self, model: Any, epochs: int) -> None:
        """Gives the model the state saved for it, if there is one.

        Args:
            model: a CompiledEpoch.
            epochs: that the training is to have in the end.
        """
        state = self.checkpoint.load(values(model), epochs)
        if state:
            for variable, value in zip(variables(model), state.variables, strict=True):
                variable.assign(value)
            self.history = state.history

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        self.history.append({name: float(value) for name, value in logs.items()})
        self.checkpoint.save(State(values(self.model), self.history))


def variables(model: Any) -> list[Any]:
    """Everything that training changes.

    The weights, what layers keep beside them (the state of their random numbers too), and what the
    optimizer keeps.
    """
    return [*model.network.variables, *model.optimizer.variables]


def values(model: Any) -> list[npt.NDArray[Any]]:
    return [variable.numpy() for variable in variables(model)]


class WriteHistory(keras.callbacks.Callback):  # type: ignore[misc]
    """Hands on what Keras reports of each epoch. After SaveCheckpoint, which brings it back."""

    def __init__(self, log: Callable[[Mapping[str, float]], None]) -> None:
        super().__init__()
        self.log = log

    def on_epoch_end(self, _: int, logs: dict[str, float]) -> None:
        self.log(logs)


class ShowProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar, or a line an epoch."""

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
