"""Time and peak memory of the whole pipeline from nothing, compared with the tutorial's script.

    MNIST_MIRROR=/path/to/mnist python -m benchmarks.pipeline

It works in a clone of HEAD. The stages download and normalize are measured separately too, and
`dvc repro` without anything to do is compared with `dvc --version`.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.common import Cost, measure, print_table
from experiments.repository.subprocesses import git
from stages.common import command_line
from stages.data.mirrors import make_mirrors_absolute

IDLE_RUNS = 9
TUTORIAL_SCRIPT = Path(__file__).with_name("tutorial.py")


def main() -> None:
    make_mirrors_absolute()
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        git("clone", "--quiet", ".", clone)
        measure("python", "-m", "stages.download", cwd=clone)  # the script reads data/raw
        script = measure(sys.executable, str(TUTORIAL_SCRIPT), cwd=clone)
        shutil.rmtree(clone / "data")
        shutil.rmtree(clone / ".dvc/cache", ignore_errors=True)
        repro = measure("dvc", "repro", "--quiet", "--force", cwd=clone)
        data = [
            measure("python", "-m", f"stages.{stage}", cwd=clone)
            for stage in ("download", "normalize")
        ]
        # In turn, since the speed of the machine may drift.
        idle = [
            (
                measure("dvc", "repro", "--quiet", cwd=clone).seconds,
                measure("dvc", "--version", cwd=clone).seconds,
            )
            for _ in range(IDLE_RUNS)
        ]

    def row(name: str, cost: Cost) -> tuple[str, ...]:
        return (
            name,
            f"{cost.seconds:.1f}",
            f"{cost.seconds / script.seconds:.2f}",
            f"{cost.megabytes:.0f}",
            f"{cost.megabytes / script.megabytes:.2f}",
        )

    preparation = Cost(sum(c.seconds for c in data), max(c.megabytes for c in data))
    print_table(
        ("", "s", "/ script", "peak memory, MB", "/ script"),
        [
            row("the tutorial's script", script),
            row("dvc repro from nothing", repro),
            row("download and normalize", preparation),
        ],
    )
    seconds = median(repro for repro, _ in idle)
    ratio = median(repro / version for repro, version in idle)
    print(f"\ndvc repro without anything to do: {seconds:.2f} s, {ratio:.1f} times dvc --version")


if __name__ == "__main__":
    command_line.run(main, __doc__)
