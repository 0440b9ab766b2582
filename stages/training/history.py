"""Metrics of each epoch in DVCLive's files, for DVC's tables and plots."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common.atomic_write import atomic_write, remove
from stages.common.errors import UserError

PREFIXES = {"train": "", "validation": "val_"}  # of the names in Keras's logs
METRICS = ("loss", "accuracy")


@contextmanager
def write_history(directory: Path) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Writes the metrics of a training with DVCLive while it runs.

    Yields a function that takes Keras's logs of the next epoch: loss, accuracy, val_loss and
    val_accuracy. After each call the files contain all epochs as curves and the last accuracies as
    metrics; each file is complete at any time, also after a kill. Values are rounded to six
    digits, so that rounding errors do not show.

    Args:
        directory: output directory, which is replaced.

    Raises:
        UserError: the git repository has no commit, which DVCLive requires.
    """
    # User settings could make DVCLive continue another history, or send this one to a server.
    for variable in [name for name in os.environ if name.startswith("DVCLIVE_")]:
        del os.environ[variable]
    os.environ["DVC_STUDIO_OFFLINE"] = "true"
    # Imported here, since it takes half a second, which readers of histories do not need.
    from dvclive import Live  # type: ignore[attr-defined]
    from scmrepo.exceptions import SCMError

    # DVCLive does not write atomically, so it writes to a temporary directory.
    partial = directory.with_name(f"partial-{directory.name}")
    remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Live(str(partial), dvcyaml=None, save_dvc_exp=False) as live:
            remove(directory)
            live.step = 1
            curves: dict[str, list[dict[str, Any]]] = {metric: [] for metric in METRICS}

            def log(logs: Mapping[str, float]) -> None:
                for metric, points in curves.items():
                    for split, prefix in PREFIXES.items():
                        value = round(logs[prefix + metric], 6)
                        points.append({"step": live.step, "split": split, metric: value})
                    # One file for both splits: DVC draws a plot for each file.
                    live.log_plot(metric, points, x="step", y=metric)
                # Each metric is a column in DVC's tables, so only two.
                for split, prefix in PREFIXES.items():
                    accuracy = round(logs[f"{prefix}accuracy"], 6)
                    live.log_metric(f"{split}/accuracy", accuracy, plot=False)
                live.make_summary()
                for path in partial.rglob("*.*"):
                    with atomic_write(directory / path.relative_to(partial)) as copy:
                        shutil.copyfile(path, copy)
                live.next_step()  # notifies DVC's extension for VS Code

            yield log
    except SCMError:
        raise UserError(
            "git: no repository with a commit here (a ZIP download?); git clone gives one"
        ) from None
    finally:
        remove(partial)


def read_curves(text: str, metric: str) -> pd.DataFrame:
    """Reads a curve that `write_history` wrote.

    Args:
        text: content of a file in `plots/custom/`.
        metric: `loss` or `accuracy`.

    Returns:
        A row for each epoch, with its number, from 1, as index; columns `train` and `validation`.

    Raises:
        ValueError, LookupError: the text has another format.
    """
    points = pd.DataFrame(json.loads(text))
    return points.pivot_table(index="step", columns="split", values=metric)
