"""Metrics of each epoch in DVCLive's files, for DVC's tables and plots."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common.atomic_write import atomic_write, remove
from stages.common.errors import UserError
from stages.common.params import read_yaml

PREFIXES = {"train": "", "validation": "val_"}  # of Keras's names of logs, for each split
PIPELINE = Path("dvc.yaml")
METRICS = ("loss", "accuracy")  # that every training has
Logs = Mapping[str, float]


class History:
    """Writes the metrics of a training, epoch by epoch.

    Values are rounded to six digits, so that rounding errors do not show.

    Args:
        live: a dvclive.Live.
        directory: where its files are copied to.
        metrics: their names, loss first. Other logs, which callbacks add, are not recorded.
    """

    def __init__(self, live: Any, directory: Path, metrics: Sequence[str]) -> None:
        self.live, self.directory = live, directory
        self.curves: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}

    def add_epoch(self, logs: Logs) -> None:
        """Adds Keras's logs of the next epoch as points of the curves, and as metrics."""
        epoch = self.live.step
        for name, points in self.curves.items():
            for split, prefix in PREFIXES.items():
                value = round(logs[prefix + name], 6)
                points.append({"step": epoch, "split": split, name: value})
            # One file for both splits: DVC draws a plot for each file.
            self.live.log_plot(name, points, x="step", y=name)
        self.set_metrics(epoch, logs)
        self.live.next_step()  # notifies DVC's extension for VS Code

    def set_metrics(self, epoch: int, logs: Logs) -> None:
        """Replaces the metrics by those of an epoch."""
        self.live.step = epoch
        # Each metric is a column in DVC's tables. The loss is in its curve.
        for name in list(self.curves)[1:]:
            for split, prefix in PREFIXES.items():
                value = round(logs[prefix + name], 6)
                self.live.log_metric(f"{split}/{name}", value, plot=False)
        self.live.make_summary()
        source = Path(self.live.dir)
        for path in source.rglob("*.*"):
            with atomic_write(self.directory / path.relative_to(source)) as copy:
                shutil.copyfile(path, copy)


def check_declared(metrics: Iterable[str], directory: Path) -> None:
    """Checks that dvc.yaml has an output for the curve of each metric.

    Args:
        metrics: their names.
        directory: output directory of `write_history`.

    Raises:
        UserError: it has none.
    """
    if not PIPELINE.exists():  # the stage is run by hand, outside of a pipeline
        return
    train = read_yaml(PIPELINE)["stages"]["train"]
    # An entry is a path, or a dictionary from a path to its options.
    declared = {
        path for plot in train["plots"] for path in ([plot] if isinstance(plot, str) else plot)
    }
    for name in metrics:
        path = (directory / f"plots/custom/{name}.json").as_posix()
        if path not in declared:
            raise UserError(
                f"dvc.yaml: the stage train has no {path} for the metric {name}; "
                "expected an entry of its plots, like that of accuracy.json"
            )


@contextmanager
def write_history(directory: Path, metrics: Sequence[str] = METRICS) -> Iterator[History]:
    """Writes the metrics of a training with DVCLive while it runs.

    After each epoch the files contain all epochs as curves and the last metrics; each file is
    complete at any time, also after a kill.

    Args:
        directory: output directory, which is replaced.
        metrics: names of the metrics, loss first.

    Raises:
        UserError: the git repository has no commit, which DVCLive requires.
    """
    # User settings could make DVCLive continue another history, or send this one to a server.
    for variable in [name for name in os.environ if name.startswith("DVCLIVE_")]:
        del os.environ[variable]
    os.environ["DVC_STUDIO_OFFLINE"] = "true"
    # Imported here: it takes half a second, and read_curves does not need it.
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
            yield History(live, directory, metrics)
    except SCMError:
        raise UserError(
            "git: no repository with a commit here (a ZIP download?); expected a clone. "
            "Run: git clone URL"
        ) from None
    finally:
        remove(partial)


def read_curves(text: str, metric: str) -> pd.DataFrame:
    """Reads a curve that `write_history` wrote.

    Args:
        text: content of a file in `plots/custom/`.
        metric: its name, such as `loss` or `accuracy`.

    Returns:
        A row for each epoch, with its number, from 1, as index; columns `train` and `validation`.

    Raises:
        ValueError, LookupError: the text has another format.
    """
    points = pd.DataFrame(json.loads(text))
    return points.pivot_table(index="step", columns="split", values=metric)
