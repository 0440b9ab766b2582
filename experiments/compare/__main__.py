"""Command line of a comparison of two revisions: `make compare A=main B=wide`."""

import argparse
from pathlib import Path

from experiments.compare.mcnemar import count_mistakes
from experiments.compare.report import (
    draw_curves,
    format_error,
    markdown,
    one_sided_mistakes,
    parameter_changes,
)
from experiments.compare.revisions import WORKSPACE, Revision, read_revision, read_test_images
from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError, printable

PAGE = Path("reports/compare.md")
PICTURE = Path("reports/compare.png")
CURVES = Path("reports/compare-curves.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare",
        description="Compares the networks of two revisions: branches, tags, commits or "
        "experiments.",
    )
    parser.add_argument("a", nargs="?", default="HEAD", metavar="A", help="default: HEAD")
    parser.add_argument(
        "b", nargs="?", default=WORKSPACE, metavar="B", help=f"default: {WORKSPACE}"
    )
    options = parser.parse_args()
    compare(read_revision(options.a), read_revision(options.b))


def compare(a: Revision, b: Revision) -> None:
    """Prints a comparison, and writes it to reports/.

    Raises:
        UserError: the revisions have different test sets.
    """
    if a.dataset != b.dataset or list(a.predictions["actual"]) != list(b.predictions["actual"]):
        raise UserError(f"{a.name} and {b.name} have different test sets; cannot compare them")
    changes = parameter_changes(a, b)
    verdict = describe_mistakes(a, b)

    for label, revision in (("A", a), ("B", b)):
        print(f"{label}: {printable(revision.name)}, error {format_error(revision)}")
    print("\nSame parameters" if changes.empty else "")
    if not changes.empty:
        print("\n".join(map(printable, changes.to_string().splitlines())))
    print(f"\n{verdict}")
    from stages.evaluation.plots import save  # imported late: matplotlib takes a second

    draw_mistakes(a, b)
    save(draw_curves(a.history, b.history), CURVES)
    with atomic_write(PAGE) as partial:
        picture = PICTURE.name if PICTURE.exists() else None
        text = markdown(a, b, verdict, picture, CURVES.name)
        partial.write_text(text, encoding="utf-8", newline="\n")
    print(f"{PAGE} is a page for a pull request")


def describe_mistakes(a: Revision, b: Revision) -> str:
    """Number of mistakes, and whether they differ significantly, in one line each."""
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


def draw_mistakes(a: Revision, b: Revision) -> None:
    """Draws the images that one network misreads, or removes an earlier picture of such images."""
    from stages.evaluation.plots import digits, save  # imported late: matplotlib takes a second

    PICTURE.unlink(missing_ok=True)
    mistakes = one_sided_mistakes(a.predictions, b.predictions)
    commit = a.commit or b.commit
    if mistakes.empty or commit is None:
        return
    try:
        images = read_test_images(commit)
    except UserError as problem:
        print(f"No picture: {problem}")
        return
    captions = [f"{row.actual} → {row.predicted} by {row.network}" for row in mistakes.itertuples()]
    title = (
        f"{len(mistakes)} images that only A or only B misreads, highest confidence first:\n"
        "actual → predicted"
    )
    save(digits(images[mistakes.index], captions, title), PICTURE)
    print(f"{PICTURE} shows {len(mistakes)} digits that one of them reads wrong")


if __name__ == "__main__":
    command_line.run(main)
