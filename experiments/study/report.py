"""Report of a study in Markdown, and its plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.study.significance import SIGNIFICANCE_LEVEL
from stages.evaluation.scores import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE_LEVEL = 0.95  # of the interval for the test error
BIAS_ON_TEST = (
    "The best cell was selected on the test images, so its error is biased downwards: of equally "
    "good cells the luckiest one is selected. No images are left to measure this bias."
)
# Markers and dashes tell the lines apart without colours.
MARKERS = "os^DvPX"
DASHES = ("-", "--", "-.", ":")


def markdown(
    summary: pd.DataFrame,
    images: str,
    test_error: str,
    failed: Sequence[str],
    stopped: Sequence[str],
    schedule: str = "constant",
) -> str:
    """The report of a study.

    Args:
        summary: of `significance.summarize`, its rows in the order of the axes.
        images: that the errors are measured on; of `describe_images`.
        test_error: paragraph about the best cell's test error and selection bias.
        failed: names of trials that failed.
        stopped: results that are missing, since the training ended before.
        schedule: of the learning rate.
    """
    widths, epochs = axes_of(summary)
    comparisons = int((summary["seeds"] > 0).sum()) - 1
    paragraphs = [
        "# Epochs and widths compared",
        f"Error in % on {images}, mean ± standard error over "
        f"{plural(summary['seeds'].max(), 'seed')}:",
        "\n".join(
            [
                f"| hidden units | {' | '.join(plural(count, 'epoch') for count in epochs)} |",
                f"| --- |{' ---: |' * len(epochs)}",
                *(
                    f"| {name} | "
                    + " | ".join(table_cell(summary.loc[(name, count)]) for count in epochs)
                    + " |"
                    for name in widths
                ),
            ]
        ),
        *([explain_best(summary, comparisons)] if comparisons else []),
        test_error,
        *([explain_comparison(comparisons)] if comparisons else []),
        f"Each network is trained once per seed, for {plural(max(epochs), 'epoch')}"
        + ("; the other columns are its errors after those epochs." if epochs[1:] else "."),
    ]
    if schedule != "constant" and epochs[1:]:
        paragraphs.append(
            f"The schedule {schedule} depends on the number of epochs, so the columns with fewer "
            f"than {max(epochs)} epochs are errors in the middle of it, not of shorter trainings. "
            "The test error of the best cell is that of trainings with its own number of epochs."
        )
    if failed:
        paragraphs.append(f"Missing, since their training failed: {', '.join(failed)}.")
    if stopped:
        paragraphs.append(f"Missing, since the training ended before: {', '.join(stopped)}.")
    return "\n\n".join(paragraphs) + "\n"


def explain_best(summary: pd.DataFrame, comparisons: int) -> str:
    width, epochs = summary.index[summary["best"]][0]
    return (
        f"**Bold** is the best cell: {width} after {plural(epochs, 'epoch')}. ≈ marks "
        f"{summary['not_significant'].sum()} of the {comparisons} others, which are not "
        "significantly worse."
    )


def explain_comparison(comparisons: int) -> str:
    return (
        "Each cell is compared with the best one by a t-test, paired over seeds, at a significance "
        f"level of {SIGNIFICANCE_LEVEL:g} after Holm's adjustment for "
        f"{plural(comparisons, 'comparison')}. The test covers the variance between trainings "
        "only, since all cells are measured on the same images. With few seeds only large "
        "differences are significant, so a cell that is not significantly worse need not be "
        "equally good."
    )


def describe_images(on_test: bool, count: int) -> str:
    """The images that the cells are compared on."""
    if on_test:
        return f"the {count:,} test images"
    return f"{count:,} images held out of the training images"


def describe_test_error(errors: pd.Series, test_images: int) -> str:
    """A paragraph about the test error of the best cell, which was selected on other images.

    Args:
        errors: test errors of the cell in percent, one for each seed; may be empty.
        test_images: number of test images.
    """
    if errors.empty:
        return "The test error of the best cell is missing."
    mistakes = round(errors.mean() / 100 * test_images)
    low, high = wilson_interval(mistakes, test_images, CONFIDENCE_LEVEL)
    return (
        "Test error of the best cell, which was not used for the selection: "
        f"{mean_and_se(errors.mean(), errors.sem())} % over {plural(len(errors), 'seed')}. All "
        f"seeds use the same {test_images:,} test images; the {100 * CONFIDENCE_LEVEL:g}% "
        f"confidence interval for other images of this kind is {100 * low:.2f} to "
        f"{100 * high:.2f} %. Its error in the table is biased downwards: of equally good cells "
        "the luckiest one is selected."
    )


def table_cell(row: Any) -> str:
    if not row["seeds"]:
        return "–"
    text = mean_and_se(row["mean"], row["se"])
    if row["best"]:
        return f"**{text}**"
    return f"{text} ≈" if row["not_significant"] else text


def mean_and_se(mean: Any, se: Any) -> str:
    return f"{mean:.2f} ± {se:.2f}" if np.isfinite(se) else f"{mean:.2f}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def axes_of(summary: pd.DataFrame) -> tuple[list[str], list[int]]:
    """The widths and the numbers of epochs."""
    widths, epochs = (summary.index.unique(level) for level in ("hidden_units", "epochs"))
    return list(widths), list(epochs)


def plot(summary: pd.DataFrame, images: str) -> "Figure":
    """Draws the error against the width, a line for each number of epochs.

    Args:
        summary: of `significance.summarize`, its rows in the order of the axes.
        images: that the errors are measured on; of `describe_images`.
    """
    # Imported late: matplotlib takes a second.
    from matplotlib.figure import Figure

    from stages.evaluation.plots import COLORS

    widths, epochs = axes_of(summary)
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for line, count in enumerate(epochs):
        cells = summary.xs(count, level="epochs").reindex(widths)
        # The lines are shifted against each other, so that the error bars do not overlap.
        x = np.arange(len(widths)) + 0.06 * (line - (len(epochs) - 1) / 2)
        axes.errorbar(
            x,
            cells["mean"],
            cells["se"].fillna(0),
            color=COLORS[line % len(COLORS)],
            marker=MARKERS[line % len(MARKERS)],
            linestyle=DASHES[line % len(DASHES)],
            capsize=4,
            label=plural(count, "epoch"),
        )
    axes.set_xticks(range(len(widths)), widths)
    axes.set(xlabel="hidden units", ylabel="error in %", xlim=(-0.5, len(widths) - 0.5))
    seeds = plural(summary["seeds"].max(), "seed")
    axes.set_title(f"Error on {images}\nmean ± standard error over {seeds}", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure
