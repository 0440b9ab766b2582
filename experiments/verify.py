"""Runs the committed pipeline again in a temporary clone, and compares all outputs with dvc.lock.

The clone is HEAD with an empty cache. The exit status is 0 only if all bytes are identical. If they
are not, as on a processor that docs/reproducibility.md does not list, the change of the test error
is printed.
"""

import os
import sys
from pathlib import Path

from experiments.repository.clones import temporary_clone
from experiments.repository.lockfile_checks import REPAIR, SCORES, Scores, changed_outputs
from experiments.repository.pipeline import PIPELINE, raise_if_frozen, read_stages
from experiments.repository.subprocesses import CommandError, run_live
from stages.common import command_line
from stages.common.errors import UserError, printable
from stages.common.lockfile import LOCKFILE, locked_outputs, locked_stages
from stages.common.params import INVALID_CONTENT
from stages.data.mirrors import make_mirrors_absolute
from stages.training.threads import threads


def main() -> None:
    threads(os.environ)  # a wrong value is reported now, not after the first stages
    make_mirrors_absolute()
    with temporary_clone("verify", include_uncommitted=False) as clone:
        committed, old = read_results(clone)
        check_committed_files(clone, committed)
        raise_if_frozen(read_stages(clone / PIPELINE))
        try:
            # --force: the metrics and plots are in git, so DVC would skip their stages.
            run_live(sys.executable, "-m", "dvc", "repro", "--force", cwd=clone)
        except CommandError:
            raise UserError("verify: the pipeline failed; the output above says why") from None
        repeated, new = read_results(clone)

    width = max(map(len, committed))
    print()
    for path, md5 in committed.items():
        state = "identical" if repeated.get(path) == md5 else difference(md5, repeated.get(path))
        print(printable(f"{path:{width}}  {state}"))
    differing = sum(repeated.get(path) != md5 for path, md5 in committed.items())
    if not differing:
        print("\nAll bytes are identical.")
        return
    print(f"\n{describe_error(old, new)}")
    raise UserError(
        f"verify: {differing} of {len(committed)} outputs differ from {LOCKFILE} (above). "
        "Processors that give the same bytes: docs/reproducibility.md"
    )


def read_results(clone: Path) -> tuple[dict[str, str], Scores]:
    """The MD5 of each output, and the test error with its interval, of a clone.

    Raises:
        UserError: dvc.lock or the metrics are missing or damaged.
    """
    try:
        outputs = locked_outputs(locked_stages((clone / LOCKFILE).read_text(encoding="utf-8")))
        scores = Scores.model_validate_json((clone / SCORES).read_text())
    except FileNotFoundError as problem:
        missing = Path(problem.filename).relative_to(clone)
        raise UserError(f"verify: HEAD has no {missing}. {REPAIR}") from None
    except INVALID_CONTENT:
        raise UserError(f"verify: {LOCKFILE} or {SCORES} is damaged in HEAD. {REPAIR}") from None
    if not outputs:
        raise UserError(f"verify: {LOCKFILE} has no outputs in HEAD. {REPAIR}")
    return outputs, scores


def check_committed_files(clone: Path, outputs: dict[str, str]) -> None:
    """Checks the outputs that git has, such as metrics and plots, against dvc.lock.

    Args:
        clone: directory of the clone, before the pipeline runs.
        outputs: the MD5 of each output by path.

    Raises:
        UserError: they are not those of dvc.lock.
    """
    in_git = {path: md5 for path, md5 in outputs.items() if (clone / path).is_file()}
    for path in changed_outputs(in_git, lambda path: (clone / path).read_bytes()):
        raise UserError(f"verify: {path} does not match {LOCKFILE} in HEAD. {REPAIR}")


def difference(old: str, new: str | None) -> str:
    return f"{old} is now {new or 'missing'}"


def describe_error(old: Scores, new: Scores) -> str:
    """The change of the test error, and whether the new one is within the committed interval."""
    low, high = old.baseline_error_low, old.baseline_error_high
    before, now = old.baseline_error, new.baseline_error
    place = "within" if low <= now <= high else "OUTSIDE"
    return (
        f"baseline_error {now:.2f}% instead of {before:.2f}% ({now - before:+.2f}): "
        f"{place} the interval {low:.2f}–{high:.2f}"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
