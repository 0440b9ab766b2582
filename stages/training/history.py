"""Loss and accuracy after each epoch, as DVCLive keeps them for DVC's tables and plots."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from stages.edges.bad_input import BadInput
from stages.edges.replacing import remove, replacing

PREFIXES = {"train": "", "validation": "val_"}  # of Keras's names
METRICS = ("loss", "accuracy")


@contextmanager
def history_in(folder: Path) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Writes the history of a training with DVCLive, while it runs.

    Yields a function that takes what Keras reports of the next epoch: loss, accuracy, val_loss and
    val_accuracy. After each call the folder's files hold all epochs so far, as curves, and the last
    accuracies, as metrics; whoever reads them meanwhile, or after a kill, finds each of them whole.
    Six digits are kept, so that noise in the last bits makes no difference.

    Args:
        folder: is replaced.

    Raises:
        BadInput: git has no commit yet, without which DVCLive does not start.
    """
    # Otherwise the user's settings would have it take up an earlier history, or send this one
    # to a server.
    for variable in [name for name in os.environ if name.startswith("DVCLIVE_")]:
        del os.environ[variable]
    os.environ["DVC_STUDIO_OFFLINE"] = "true"
    # Here, as half a second is too much for those who only read.
    from dvclive import Live  # type: ignore[attr-defined]
    from scmrepo.exceptions import SCMError

    # DVCLive writes its files bit by bit, so it does that beside.
    partial = folder.with_name(f"partial-{folder.name}")
    remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Live(str(partial), dvcyaml=None, save_dvc_exp=False) as live:
            remove(folder)
            live.step = 1
            curves: dict[str, list[dict[str, Any]]] = {metric: [] for metric in METRICS}

            def log(epoch: Mapping[str, float]) -> None:
                for metric, points in curves.items():
                    for split, prefix in PREFIXES.items():
                        value = round(epoch[prefix + metric], 6)
                        points.append({"step": live.step, "split": split, metric: value})
                    # One file for both splits, for DVC draws a panel for each file.
                    live.log_plot(metric, points, x="step", y=metric)
                # Columns of DVC's tables, left of the error's, so no more than two.
                for split, prefix in PREFIXES.items():
                    accuracy = round(epoch[f"{prefix}accuracy"], 6)
                    live.log_metric(f"{split}/accuracy", accuracy, plot=False)
                live.make_summary()
                for path in partial.rglob("*.*"):
                    with replacing(folder / path.relative_to(partial)) as copy:
                        shutil.copyfile(path, copy)
                live.next_step()  # tells VS Code that there is something to read

            yield log
    except SCMError:
        raise BadInput("DVCLive needs a git repository with a commit: git commit") from None
    finally:
        remove(partial)


def curves_in(text: str, metric: str) -> pd.DataFrame:
    """Reads what `history_in` wrote about a metric.

    Args:
        text: of one of the folder's files in `plots/custom/`.
        metric: `loss` or `accuracy`.

    Returns:
        A row for each epoch, with its number, from 1, as index; columns `train` and `validation`.

    Raises:
        ValueError, LookupError: it is no such file.
    """
    points = pd.DataFrame(json.loads(text))
    return points.pivot_table(index="step", columns="split", values=metric)
