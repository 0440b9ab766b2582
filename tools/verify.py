"""Runs the committed pipeline again elsewhere, and compares every byte with dvc.lock.

HEAD is cloned into a temporary folder with an empty cache. Exit status 0 only when all bytes
agree. On another kind of processor the model's bytes may differ; then the metrics are judged.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from experiments.recipes import git
from stages.data.mirrors import make_mirrors_absolute
from stages.edges.bad_input import explained, no_arguments, printable
from stages.edges.replacing import replacing
from tools.elsewhere import run

METRICS = "metrics/evaluate.json"
# Which commit was found identical last, for the page of `make compare`.
VERIFIED = Path("reports/verified")


def outputs(lock: dict[str, Any]) -> dict[str, str]:
    """Path to MD5 of everything that the stages of a dvc.lock have written."""
    return {
        out["path"]: out["md5"]
        for stage in lock["stages"].values()
        for out in stage.get("outs", [])
    }


def comparison(committed: dict[str, str], again: dict[str, str]) -> Iterator[tuple[str, str]]:
    """For each output its path and `identical`, or both MD5s."""
    for path, md5 in committed.items():
        other = again.get(path, "missing")
        yield path, "identical" if other == md5 else f"{md5} is now {other}"


def judgement(committed: dict[str, Any], again: dict[str, Any]) -> str:
    """Says by how much the metrics differ, and whether that is within the committed interval."""
    low, high = committed["baseline_error_low"], committed["baseline_error_high"]
    old, new = committed["baseline_error"], again["baseline_error"]
    place = "within" if low <= new <= high else "OUTSIDE"
    return (
        f"baseline_error {new:.2f}% instead of {old:.2f}% ({new - old:+.2f}): "
        f"{place} the interval {low:.2f}–{high:.2f}"
    )


def main() -> None:
    make_mirrors_absolute()
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        git("clone", "--quiet", ".", str(clone))
        try:
            commit = git("-C", str(clone), "rev-parse", "HEAD")
            committed = yaml.safe_load((clone / "dvc.lock").read_text())
            metrics = json.loads((clone / METRICS).read_text())
        except FileNotFoundError as problem:
            sys.exit(f"verify: HEAD has no {Path(problem.filename).relative_to(clone)}; commit it")
        # The metrics and plots are in the clone, so that evaluate would have nothing to do.
        if run("dvc", "repro", "--force", folder=clone):
            sys.exit("verify: the pipeline has failed; what is above says why")
        again = yaml.safe_load((clone / "dvc.lock").read_text())
        metrics_again = json.loads((clone / METRICS).read_text())

    rows = list(comparison(outputs(committed), outputs(again)))
    width = max(len(path) for path, _ in rows)
    print()
    for path, verdict in rows:
        print(printable(f"{path:{width}}  {verdict}"))
    if all(verdict == "identical" for _, verdict in rows):
        print("\nAll bytes are identical.")
        with replacing(VERIFIED) as partial:
            partial.write_text(commit)
        return
    print(f"\n{judgement(metrics, metrics_again)}")
    sys.exit("verify: not all bytes are identical; another kind of processor can be the reason")


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
