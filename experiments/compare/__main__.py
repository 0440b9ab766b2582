"""Command line of a comparison of two revisions: `make compare A=main B=wide`."""

import argparse
from pathlib import Path

from experiments.compare.report import (
    describe_checks,
    describe_mistakes,
    draw_curves,
    draw_mistakes,
    format_error,
    markdown,
    parameter_changes,
)
from experiments.compare.revisions import WORKSPACE, Revision, read_revision
from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError, printable

REPORT = Path("reports/compare.md")
MISTAKES_PLOT = Path("reports/compare.png")
CURVES_PLOT = Path("reports/compare-curves.png")


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
    labels = [list(revision.predictions["actual"]) for revision in (a, b)]
    if a.dataset_md5 != b.dataset_md5 or labels[0] != labels[1]:
        raise UserError(f"{a.name} and {b.name} have different test sets; cannot compare them")
    changes = parameter_changes(a, b)
    verdict = describe_mistakes(a, b)

    for label, revision in (("A", a), ("B", b)):
        print(f"{label}: {printable(revision.name)}, error {format_error(revision)}")
    print()
    if changes.empty:
        print("Same parameters")
    else:
        print("\n".join(map(printable, changes.to_string().splitlines())))
    remarks = describe_checks(a, b)
    print("\n".join(["", verdict, *map(printable, remarks)]))
    from stages.evaluation.plots import save  # imported late: matplotlib takes a second

    draw_mistakes(a, b, MISTAKES_PLOT)
    save(draw_curves(a.history, b.history), CURVES_PLOT)
    with atomic_write(REPORT) as partial:
        mistakes_plot = MISTAKES_PLOT.name if MISTAKES_PLOT.exists() else None
        text = markdown(a, b, verdict, remarks, mistakes_plot, CURVES_PLOT.name)
        partial.write_text(text, encoding="utf-8", newline="\n")
    print(f"Report, for example for a pull request: {REPORT}")


if __name__ == "__main__":
    command_line.run(main)
