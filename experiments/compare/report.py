"""Report of a comparison: verdict, Markdown, and plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.compare.mcnemar import count_mistakes
from experiments.compare.revisions import Revision, read_test_images
from experiments.repository.clones import has_changes
from experiments.repository.lockfile_checks import changes_since_run
from experiments.repository.subprocesses import CommandError, git
from stages.common.errors import UserError
from stages.common.params import as_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_MISTAKES_SHOWN = 25


def markdown(
    a: Revision,
    b: Revision,
    verdict: str,
    remarks: list[str],
    mistakes_plot: str | None,
    curves_plot: str,
) -> str:
    """The report in Markdown.

    Args:
        a: the old revision.
        b: the new one.
        verdict: lines about their mistakes.
        remarks: sentences that say what was checked.
        mistakes_plot: file name of the plot of mistakes, if there is one.
        curves_plot: file name of the plot of learning curves.
    """
    changes = parameter_changes(a, b)
    rows = [
        ("", f"A: {a.name}", f"B: {b.name}"),
        ("error", format_error(a), format_error(b)),
        *((f"`{key}`", row["A"], row["B"]) for key, row in changes.iterrows()),
    ]
    head, *lines = (
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows
    )
    paragraphs = [
        f"# {b.name} against {a.name}",
        "\n".join([head, "| --- | ---: | ---: |", *lines]),
        *verdict.splitlines(),
    ]
    if mistakes_plot:
        paragraphs.append(f"![Images that only A or only B misclassifies]({mistakes_plot})")
    paragraphs += [f"![Learning curves of both]({curves_plot})", *remarks]
    return "\n\n".join(paragraphs) + "\n"


def parameter_changes(a: Revision, b: Revision) -> pd.DataFrame:
    """A row for each parameter that differs, with its value as YAML in the columns A and B."""
    keys = [key for key in a.params | b.params if a.params.get(key) != b.params.get(key)]
    return pd.DataFrame(
        {
            label: [as_yaml(params[key]) if key in params else "–" for key in keys]
            for label, params in (("A", a.params), ("B", b.params))
        },
        index=keys,
    )


def format_error(revision: Revision) -> str:
    """The test error with its interval and counts: 2.00% (1.74–2.29, 200 of 10,000)."""
    scores, table = revision.scores, revision.predictions
    mistakes = (table["actual"] != table["predicted"]).sum()
    return (
        f"{scores.baseline_error:.2f}% "
        f"({scores.baseline_error_low:.2f}–{scores.baseline_error_high:.2f}, "
        f"{mistakes:,} of {len(table):,})"
    )


def describe_checks(a: Revision, b: Revision) -> list[str]:
    """Sentences that say whether the results are those of the code and parameters beside them."""
    return [
        describe_lockfile(b),
        *(
            f"Frozen stages of {revision.name}: {', '.join(revision.frozen)}. DVC did not check "
            "their code, data and parameters."
            for revision in (a, b)
            if revision.frozen
        ),
    ]


def describe_lockfile(revision: Revision) -> str:
    """Sentences that say whether dvc.lock agrees with code and parameters."""
    commit = f" (commit {revision.commit[:10]})" if revision.commit else ""
    lockfile = f"The `dvc.lock` of {revision.name}{commit}"
    if revision.commit and not is_workspace(revision.commit):
        return (
            f"{lockfile} was not checked: `dvc status` checks the workspace, or HEAD without "
            "changes."
        )
    try:
        changes = changes_since_run()
    except CommandError:
        return f"{lockfile} cannot be checked: `dvc status` fails."
    if changes:
        stages = "; ".join(f"{stage}: {', '.join(paths)}" for stage, paths in changes.items())
        return f"{lockfile} is out of date. Changed since the run of {stages}. Run: `dvc repro`."
    return f"{lockfile} agrees with code and parameters."


def is_workspace(commit: str) -> bool:
    """Whether the workspace is this commit, without changes of files in git."""
    return git("rev-parse", "HEAD").strip() == commit and not has_changes()


def describe_mistakes(a: Revision, b: Revision) -> str:
    """The numbers of mistakes, and whether they differ significantly, as lines."""
    mistakes = count_mistakes(a.predictions, b.predictions)
    counts = (
        f"Mistakes: {mistakes.only_a} of A alone, {mistakes.only_b} of B alone, "
        f"{mistakes.both} of both"
    )
    if (a.predictions["predicted"] == b.predictions["predicted"]).all():
        return f"{counts}\nAll predictions are the same"
    return (
        f"{counts}\n{mistakes.verdict} (McNemar's exact test)\n"
        "This compares two networks. To compare layers or epochs over several seeds: make study"
    )


def draw_mistakes(a: Revision, b: Revision, path: Path) -> None:
    """Draws the images that only one of the two networks misclassifies.

    If there are none, an earlier plot is removed.

    Args:
        a: the old revision.
        b: the new one.
        path: the PNG file.
    """
    from stages.evaluation.plots import (  # imported late: matplotlib takes a second
        draw_digits,
        save,
    )

    path.unlink(missing_ok=True)
    mistakes = one_sided_mistakes(a.predictions, b.predictions)
    commit = a.commit or b.commit
    if mistakes.empty or commit is None:
        return
    try:
        images = read_test_images(commit)
    except UserError as problem:
        print(f"No plot of mistakes: {problem}")
        return
    captions = [f"{row.actual} → {row.predicted} by {row.network}" for row in mistakes.itertuples()]
    title = (
        f"{len(mistakes)} images that only A or only B misclassifies, highest confidence first:\n"
        "actual → predicted"
    )
    save(draw_digits(images[mistakes.index], captions, title), path)
    print(f"{path} shows {len(mistakes)} images that only one of the networks misclassifies")


def one_sided_mistakes(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The mistakes that only one of two networks makes, highest confidence first.

    Returns:
        At most MAX_MISTAKES_SHOWN rows of the two tables of predictions, with the index of the
        image, and a column `network`: A or B.
    """
    tables = []
    for label, wrong, right in (("A", a, b), ("B", b, a)):
        alone = (wrong["predicted"] != wrong["actual"]) & (right["predicted"] == right["actual"])
        tables.append(wrong[alone].assign(network=label))
    mistakes = pd.concat(tables).sort_values("confidence", ascending=False, kind="stable")
    return mistakes.head(MAX_MISTAKES_SHOWN)


def draw_curves(a: Mapping[str, pd.DataFrame], b: Mapping[str, pd.DataFrame]) -> "Figure":
    """Draws loss and accuracy of two trainings against epochs, a panel for each metric.

    Args:
        a: for each metric a row for each epoch; columns `train` and `validation`.
        b: the same of the other training; its number of epochs may differ.
    """
    from matplotlib.figure import Figure  # imported late: it takes a second

    from stages.evaluation.plots import BLUE, ORANGE

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
