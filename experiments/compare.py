"""Compares the networks of two revisions, with a test: `make compare A=main B=wide`."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.evidence import Mistakes
from experiments.pull_request import curves, described, page
from experiments.recipes import md5
from experiments.revisions import RAW, WORKSPACE, Revision, read_revision
from stages.data.arrays import Array, load_split
from stages.edges.bad_input import BadInput, explained, printable
from stages.edges.parameters import shown
from stages.edges.replacing import replacing

PAGE = Path("reports/compare.md")
PICTURE = Path("reports/compare.png")
CURVES = Path("reports/compare-curves.png")
MOST = 25  # digits in the picture


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

    a, b = read_revision(options.a), read_revision(options.b)
    if a.dataset != b.dataset or list(a.predictions["actual"]) != list(b.predictions["actual"]):
        raise BadInput(f"{a.name} and {b.name} have different test sets: nothing to compare")
    changes = differences(a.parameters, b.parameters)
    verdict = judged(a, b)
    either = one_wrong(a.predictions, b.predictions)
    images = test_images(a.dataset) if len(either) else "none is misread by one of them alone"

    for label, revision in (("A", a), ("B", b)):
        print(f"{label}: {printable(revision.name)}, error {described(revision)}")
    print("\nSame parameters" if changes.empty else "")
    for line in changes.to_string().splitlines() if len(changes) else ():
        print(printable(line))
    print(f"\n{verdict}")
    from stages.results.pictures import digits, save  # imported late: matplotlib takes a second

    if isinstance(images, str):
        if len(either):
            print(f"No picture: {images}")
        PICTURE.unlink(missing_ok=True)
    else:
        captions = [f"{row.actual} → {row.predicted} by {row.wrong}" for row in either.itertuples()]
        title = (
            f"{len(either)} images that A or B alone misreads, the surest first:\n"
            "what it is → what it reads"
        )
        save(digits(images[either.index], captions, title), PICTURE)
        print(f"{PICTURE} shows {len(either)} digits that one of them reads wrong")
    save(curves(a.history, b.history), CURVES)
    with replacing(PAGE) as partial:
        text = page(a, b, changes, verdict, PICTURE.name if PICTURE.exists() else None, CURVES.name)
        partial.write_text(text, encoding="utf-8", newline="\n")
    print(f"{PAGE} is a page for a pull request")


def judged(a: Revision, b: Revision) -> str:
    """The mistakes that only one of the two makes, and whether they are more than chance."""
    mistakes = count_mistakes(a.predictions, b.predictions)
    counts = (
        f"Mistakes: {mistakes.a_alone} of A alone, {mistakes.b_alone} of B alone, "
        f"{mistakes.both} of both"
    )
    if (a.predictions["predicted"] == b.predictions["predicted"]).all():
        return f"{counts}\nThey predict the same"
    return (
        f"{counts}\n{mistakes.verdict[0].upper()}{mistakes.verdict[1:]} (McNemar's exact test)\n"
        "This is about these two networks; about widths or epochs as such, ask make study."
    )


def differences(a: dict[str, Any], b: dict[str, Any]) -> pd.DataFrame:
    """A row for each parameter that differs, with a column for A and for B."""
    keys = [key for key in a | b if a.get(key) != b.get(key)]
    return pd.DataFrame(
        {
            label: [shown(parameters[key]) if key in parameters else "–" for key in keys]
            for label, parameters in (("A", a), ("B", b))
        },
        index=keys,
    )


def count_mistakes(a: pd.DataFrame, b: pd.DataFrame) -> Mistakes:
    """Counts the mistakes of two tables of predictions for the same images."""
    a_wrong = a["predicted"] != a["actual"]
    b_wrong = b["predicted"] != b["actual"]
    return Mistakes(
        int((a_wrong & ~b_wrong).sum()),
        int((b_wrong & ~a_wrong).sum()),
        int((a_wrong & b_wrong).sum()),
    )


def one_wrong(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The predictions that are wrong where the other's is right, at most MOST, surest first.

    Returns:
        The rows with their index, the image's place; `wrong` says whose they are, A or B.
    """
    tables = []
    for label, wrong, right in (("A", a, b), ("B", b, a)):
        alone = (wrong["predicted"] != wrong["actual"]) & (right["predicted"] == right["actual"])
        tables.append(wrong[alone].assign(wrong=label))
    return pd.concat(tables).sort_values("confidence", ascending=False, kind="stable").head(MOST)


def test_images(dataset: str) -> Array | str:
    """The test images of the data set with this MD5, or why they are not at hand."""
    try:
        x_test, _ = load_split(Path(RAW), "test", "uint8")
    except BadInput as problem:
        return str(problem)
    if md5(RAW) != dataset:
        return f"{RAW} holds another data set than these two were tested with"
    return x_test


if __name__ == "__main__":
    with explained():
        main()
