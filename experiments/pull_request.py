"""A page for a pull request: two revisions side by side, in Markdown, with their curves."""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import pandas as pd

from experiments.recipes import git
from experiments.revisions import WORKSPACE, Revision
from stages.edges.bad_input import BadInput
from tools.verify import VERIFIED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def page(
    a: Revision, b: Revision, changes: pd.DataFrame, verdict: str, picture: str | None, curves: str
) -> str:
    """The comparison in Markdown.

    Args:
        a: what there was.
        b: what is new.
        changes: a row for each parameter that differs, columns A and B.
        verdict: lines about their mistakes.
        picture: file name of the images that one of them misreads, if there is one.
        curves: file name of the learning curves.
    """
    rows = [
        ("", f"A: {a.name}", f"B: {b.name}"),
        ("error", described(a), described(b)),
        *((f"`{key}`", row["A"], row["B"]) for key, row in changes.iterrows()),
    ]
    head, *lines = (
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows
    )
    paragraphs = [
        f"# {b.name} against {a.name}",
        "\n".join([head, "| --- | ---: | ---: |", *lines]),
        *verdict.splitlines(),
        *([f"![Images that A or B alone misreads]({picture})"] if picture else []),
        f"![Learning curves of both]({curves})",
        f"`dvc.lock` of B {agreement(b.name)}. The bytes of its results are {verified(b.name)}.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def described(revision: Revision) -> str:
    """Its test error, with the interval and the counts."""
    scores, table = revision.scores, revision.predictions
    mistakes = (table["actual"] != table["predicted"]).sum()
    return (
        f"{scores.baseline_error:.2f}% "
        f"({scores.baseline_error_low:.2f}–{scores.baseline_error_high:.2f}, "
        f"{mistakes:,} of {len(table):,})"
    )


def agreement(name: str) -> str:
    """Whether code, parameters and results are those that dvc.lock tells of."""
    if name != WORKSPACE:
        return "is not checked, as only the workspace's can be (`dvc status`)"
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        check=False,
        capture_output=True,
        text=True,
    )
    if status.returncode:
        return "cannot be checked: `dvc status` fails"
    changed = {
        path
        for entries in json.loads(status.stdout).values()
        for entry in entries
        if isinstance(entry, dict)
        for kind in ("changed deps", "changed outs")
        for path, state in entry.get(kind, {}).items()
        # A clone without data is as good: what is in the cache elsewhere is not changed.
        if state != "deleted"
    }
    if changed:
        return f"is older than {', '.join(sorted(changed))}; `dvc repro` makes it anew"
    return "agrees with code and parameters"


def verified(name: str) -> str:
    """Whether `make verify` has found the bytes of this revision identical, here."""
    with suppress(BadInput):  # git does not know the names of experiments
        commit = git("rev-parse", "--verify", "HEAD" if name == WORKSPACE else f"{name}^{{commit}}")
        if VERIFIED.exists() and VERIFIED.read_text() == commit:
            return f"found identical by `make verify`, at commit {commit[:7]}"
    return "not verified here; `make verify` does it for HEAD"


def curves(a: Mapping[str, pd.DataFrame], b: Mapping[str, pd.DataFrame]) -> "Figure":
    """Draws loss and accuracy of two trainings against epochs, a panel each.

    Args:
        a: for `loss` and for `accuracy`, a row for each epoch, columns `train` and `validation`.
        b: the same, of another number of epochs perhaps.
    """
    from matplotlib.figure import Figure  # imported late: it takes a second

    from stages.results.pictures import BLUE, ORANGE

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), a, strict=True):
        for label, history, colour in (("A", a, BLUE), ("B", b, ORANGE)):
            for split, style in (("train", ".--"), ("validation", ".-")):
                axes.plot(history[metric][split], style, color=colour, label=f"{label}, {split}")
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
