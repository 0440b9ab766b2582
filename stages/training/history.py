"""Loss and accuracy after each epoch, as DVCLive keeps them for DVC's tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.edges.bad_input import BadInput
from stages.edges.replacing import replacing

SPLITS = ("train", "validation")
METRICS = ("loss", "accuracy")


def save_history(folder: Path, epochs: Sequence[Mapping[str, float]]) -> None:
    """Writes the history of a training with DVCLive.

    Args:
        folder: is replaced.
        epochs: for each epoch what Keras reports: loss, accuracy, val_loss and val_accuracy.
            Six digits are kept, so that noise in the last bits makes no difference.

    Raises:
        BadInput: git has no commit yet, without which DVCLive does not start.
    """
    # Here, as half a second is too much for those who only read.
    from dvclive import Live  # type: ignore[attr-defined]
    from scmrepo.exceptions import SCMError

    try:
        with (
            replacing(folder) as partial,
            Live(str(partial), dvcyaml=None, save_dvc_exp=False) as live,
        ):
            for epoch, logs in enumerate(epochs, start=1):
                live.step = epoch
                for split, prefix in zip(SPLITS, ("", "val_"), strict=True):
                    for metric in METRICS:
                        live.log_metric(f"{split}/{metric}", round(logs[prefix + metric], 6))
    except SCMError:
        raise BadInput("DVCLive needs a git repository with a commit: git commit") from None


def read_history(folder: Path) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """Reads what `save_history` wrote: metric, then split, to an array of shape (epochs,)."""
    return {
        metric: {split: column(folder / f"plots/metrics/{split}/{metric}.tsv") for split in SPLITS}
        for metric in METRICS
    }


def column(path: Path) -> npt.NDArray[np.float64]:
    """The last column of a table in DVCLive's format."""
    try:
        return pd.read_csv(path, sep="\t").iloc[:, -1].to_numpy(np.float64)
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; dvc repro makes it") from None
    except (ValueError, IndexError):
        raise BadInput(f"{path} is no table of numbers; dvc repro --force train makes it") from None
