"""What a study has found, as a table of numbers, a page to read, and a picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from experiments.evidence import LEVEL
from stages.results.scores import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which the colour-blind can tell apart, dark colours first; without
# colour, the markers and the dashes still do.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX"
DASHES = ("-", "--", "-.", ":")


class Reading(NamedTuple):
    """What the errors are measured on: the test set, or held-out images; how many they are."""

    on_test: bool
    images: int

    def __str__(self) -> str:
        if self.on_test:
            return f"the {self.images:,} test images"
        return f"{self.images:,} images held out of the training images"


class ErrorsOnTest(NamedTuple):
    """The test errors of one cell: in percent, one for each seed, on so many images."""

    errors: pd.Series
    images: int

    @classmethod
    def of(cls, scores: Sequence[Mapping[str, Any]], images: int) -> Self:
        """Takes what metrics/evaluate.json holds, for each seed."""
        return cls(pd.Series([score["baseline_error"] for score in scores]), images)

    def __str__(self) -> str:
        """The mean with its standard error over seeds, and Wilson's interval for the images."""
        mistakes = round(self.errors.mean() / 100 * self.images)
        low, high = wilson_interval(mistakes, self.images, 0.95)
        return (
            f"{with_error(self.errors.mean(), self.errors.sem())} % over "
            f"{counted(len(self.errors), 'seed')}. The seeds share the {self.images:,} test "
            f"images; on others, an error like this may be {100 * low:.2f} to "
            f"{100 * high:.2f} % (95% interval)"
        )


def page(
    summary: pd.DataFrame, reading: Reading, test: ErrorsOnTest | None, missing: Sequence[str]
) -> str:
    """The study in Markdown.

    Args:
        summary: of `evidence.summarize`, its rows in the order of the axes.
        reading: what the errors are measured on.
        test: of the best cell, if there is one that has not chosen it.
        missing: the names of trainings that never came through.
    """
    widths, epochs = axes_of(summary)
    best_width, best_epochs = summary.index[summary["best"]][0]
    comparisons = int((summary["seeds"] > 0).sum()) - 1
    paragraphs = [
        "# Epochs and widths compared",
        f"Error in % on {reading}, mean ± standard error over "
        f"{counted(summary['seeds'].max(), 'seed')}:",
        "\n".join(
            [
                f"| hidden units | {' | '.join(counted(count, 'epoch') for count in epochs)} |",
                f"| --- |{' ---: |' * len(epochs)}",
                *(
                    f"| {name} | "
                    + " | ".join(cell(summary.loc[(name, count)]) for count in epochs)
                    + " |"
                    for name in widths
                ),
            ]
        ),
        f"**Bold** is the best: {best_width} after {counted(best_epochs, 'epoch')}. ≈ cannot be "
        f"told from it: {summary['alike'].sum()} of the {comparisons} others.",
        choice(reading, test),
        f"The test is a t-test, paired over seeds, of each cell against the best, at the level "
        f"{LEVEL:g} after Holm's adjustment for {counted(comparisons, 'comparison')}. It judges "
        "the chance in training alone, as all cells are measured on the same images. With few "
        "seeds it finds only large differences, so cells it cannot tell apart need not be equal.",
        "Shorter trainings are read off the longest: after k epochs, a training of more is bit "
        "for bit the training of k, and its history holds the error of that moment.",
    ]
    if missing:
        paragraphs.append(f"Missing, as they never came through: {', '.join(missing)}.")
    return "\n\n".join(paragraphs) + "\n"


def choice(reading: Reading, test: ErrorsOnTest | None) -> str:
    """What the choice of the best does to its error."""
    if reading.on_test:
        return (
            "The test images have chosen the best, so its error is flattered: among equals, the "
            "luckiest wins. No images are left that could tell by how much."
        )
    if test is None:
        return "The test error of the best is missing."
    return (
        f"The test error of the best, looked at once, after the choice: {test}. The one in the "
        "table is flattered: among equals, the luckiest is chosen."
    )


def cell(row: Any) -> str:
    if not row["seeds"]:
        return "–"
    text = with_error(row["mean"], row["se"])
    return f"**{text}**" if row["best"] else f"{text} ≈" if row["alike"] else text


def with_error(mean: Any, se: Any) -> str:
    return f"{mean:.2f} ± {se:.2f}" if np.isfinite(se) else f"{mean:.2f}"


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def axes_of(summary: pd.DataFrame) -> tuple[list[str], list[int]]:
    widths, epochs = (summary.index.unique(level) for level in ("hidden_units", "epochs"))
    return list(widths), list(epochs)


def picture(summary: pd.DataFrame, reading: Reading) -> "Figure":
    """Draws the error against the width, a line for each number of epochs.

    Args:
        summary: of `evidence.summarize`, its rows in the order of the axes.
        reading: what the errors are measured on.
    """
    # Imported late: matplotlib takes a second. The module also sets its defaults.
    from matplotlib.figure import Figure

    import stages.results.pictures  # noqa: F401

    widths, epochs = axes_of(summary)
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for line, count in enumerate(epochs):
        of_line = summary.xs(count, level="epochs").reindex(widths)
        # Side by side, so that the bars do not hide each other.
        places = np.arange(len(widths)) + 0.06 * (line - (len(epochs) - 1) / 2)
        axes.errorbar(
            places,
            of_line["mean"],
            of_line["se"].fillna(0),
            color=COLOURS[line % len(COLOURS)],
            marker=MARKERS[line % len(MARKERS)],
            linestyle=DASHES[line % len(DASHES)],
            capsize=4,
            label=counted(count, "epoch"),
        )
    axes.set_xticks(range(len(widths)), widths)
    axes.set(xlabel="hidden units", ylabel="error in %", xlim=(-0.5, len(widths) - 0.5))
    over = counted(summary["seeds"].max(), "seed")
    axes.set_title(f"Error on {reading}\nmean ± standard error over {over}", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure
