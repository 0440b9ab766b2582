"""Report of a study in Markdown, and its plot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from experiments.study.significance import SIGNIFICANCE_LEVEL
from stages.evaluation.scores import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE_LEVEL = 0.95  # of the interval for the test error
# Okabe and Ito's palette for colour-blind readers, dark colours first. Markers and dashes tell the
# lines apart without colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX"
DASHES = ("-", "--", "-.", ":")


class Images(NamedTuple):
    """The images that a study compares its cells on.

    Attributes:
        on_test: whether they are the test images; otherwise held-out training images.
        number: how many they are.
    """

    on_test: bool
    number: int

    def __str__(self) -> str:
        if self.on_test:
            return f"the {self.number:,} test images"
        return f"{self.number:,} images held out of the training images"


class ErrorsOnTest(NamedTuple):
    """Test errors of one cell.

    Attributes:
        errors: in percent, one for each seed.
        images: number of test images.
    """

    errors: pd.Series
    images: int

    @classmethod
    def from_scores(cls, scores: Sequence[Mapping[str, Any]], images: int) -> Self:
        """Takes the content of metrics/evaluate.json for each seed."""
        return cls(pd.Series([score["baseline_error"] for score in scores]), images)

    def __str__(self) -> str:
        """The mean, its standard error over seeds, and Wilson's interval for other test images."""
        mistakes = round(self.errors.mean() / 100 * self.images)
        low, high = wilson_interval(mistakes, self.images, CONFIDENCE_LEVEL)
        return (
            f"{mean_and_se(self.errors.mean(), self.errors.sem())} % over "
            f"{plural(len(self.errors), 'seed')}. All seeds use the same {self.images:,} test "
            f"images; the {100 * CONFIDENCE_LEVEL:g}% confidence interval for other images of this "
            f"kind is {100 * low:.2f} to {100 * high:.2f} %"
        )


def markdown(
    summary: pd.DataFrame,
    images: Images,
    test: ErrorsOnTest | None,
    failed: Sequence[str],
    stopped: Sequence[str],
    schedule: str = "constant",
) -> str:
    """The report of a study.

    Args:
        summary: of `significance.summarize`, its rows in the order of the axes.
        images: that the errors are measured on.
        test: test errors of the best cell, if it was selected on other images and has been tested.
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
        test_of_best(images, test),
        *([explain_comparison(comparisons)] if comparisons else []),
        f"Each network is trained once, for {plural(max(epochs), 'epoch')}"
        + ("; the other columns are its results after those epochs." if epochs[1:] else "."),
    ]
    if schedule != "constant" and epochs[1:]:
        paragraphs.append(
            f"The schedule {schedule} depends on the number of epochs. The columns with fewer than "
            f"{max(epochs)} epochs are results in the middle of it. The test error of the best "
            "cell is measured after a whole training of its own number of epochs, so it is that "
            "of a different training."
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


def test_of_best(images: Images, test: ErrorsOnTest | None) -> str:
    """A paragraph about the test error of the best cell, and about selection bias."""
    if images.on_test:
        return (
            "The best cell was selected on the test images, so its error is biased downwards: of "
            "equally good cells the luckiest one is selected. No images are left to measure this "
            "bias."
        )
    if test is None:
        return "The test error of the best cell is missing."
    return (
        f"Test error of the best cell, measured once, after the selection: {test}. Its error in "
        "the table is biased downwards: of equally good cells the luckiest one is selected."
    )


def table_cell(row: Any) -> str:
    if not row["seeds"]:
        return "–"
    text = mean_and_se(row["mean"], row["se"])
    return f"**{text}**" if row["best"] else f"{text} ≈" if row["not_significant"] else text


def mean_and_se(mean: Any, se: Any) -> str:
    return f"{mean:.2f} ± {se:.2f}" if np.isfinite(se) else f"{mean:.2f}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def axes_of(summary: pd.DataFrame) -> tuple[list[str], list[int]]:
    """The widths and the numbers of epochs."""
    widths, epochs = (summary.index.unique(level) for level in ("hidden_units", "epochs"))
    return list(widths), list(epochs)


def plot(summary: pd.DataFrame, images: Images) -> "Figure":
    """Draws the error against the width, a line for each number of epochs.

    Args:
        summary: of `significance.summarize`, its rows in the order of the axes.
        images: that the errors are measured on.
    """
    # Imported late: matplotlib takes a second. The second import sets its defaults.
    from matplotlib.figure import Figure

    import stages.evaluation.plots  # noqa: F401

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
            color=COLOURS[line % len(COLOURS)],
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
