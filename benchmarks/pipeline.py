"""The whole pipeline from nothing against the tutorial's script as one process.

    MNIST_MIRROR=/path/to/mnist python -m benchmarks.pipeline

In a clean clone of HEAD. Also the peak memory of both, download and normalize by themselves,
and a `dvc repro` with nothing to do against `dvc --version`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from experiments.recipes import git
from stages.data.mirrors import make_mirrors_absolute
from stages.edges.bad_input import explained, no_arguments


class Cost(NamedTuple):
    """Wall seconds, and the peak memory in MB of the largest single process."""

    seconds: float
    megabytes: float


def cost(folder: Path, *command: str) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_maxrss / 1024)


def main() -> None:
    make_mirrors_absolute()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        git("clone", "--quiet", ".", str(folder))

        def repro(*targets: str) -> Cost:
            shutil.rmtree(folder / ".dvc/cache", ignore_errors=True)
            shutil.rmtree(folder / "data", ignore_errors=True)
            return cost(folder, "dvc", "repro", "--quiet", "--force", *targets)

        cost(folder, "python", "-m", "stages.download")  # what the script reads
        script_file = str(Path(__file__).with_name("tutorial.py"))
        script = cost(folder, sys.executable, script_file)
        pipeline = repro()
        data = [
            cost(folder, "python", "-m", f"stages.{name}") for name in ("download", "normalize")
        ]
        # In turn, as the machine's speed may drift.
        idle = [
            (cost(folder, "dvc", "repro", "--quiet"), cost(folder, "dvc", "--version"))
            for _ in range(9)
        ]

    print("| | s | of the script | peak memory, MB | of the script |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, value in (
        ("the tutorial's script", script),
        ("dvc repro from nothing", pipeline),
    ):
        time_ratio = value.seconds / script.seconds
        memory_ratio = value.megabytes / script.megabytes
        print(
            f"| {name} | {value.seconds:.1f} | {time_ratio:.2f} "
            f"| {value.megabytes:.0f} | {memory_ratio:.2f} |"
        )
    seconds, most = sum(c.seconds for c in data), max(c.megabytes for c in data)
    print(f"| download and normalize | {seconds:.1f} | | {most:.0f} | |")
    seconds_idle = median(nothing.seconds for nothing, _ in idle)
    ratio = median(nothing.seconds / version.seconds for nothing, version in idle)
    print(f"\ndvc repro with nothing to do: {seconds_idle:.2f} s, {ratio:.1f} times dvc --version")


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
