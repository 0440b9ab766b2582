"""The whole pipeline on the embedded digits, as a DVC experiment: the workspace stays as it is."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from experiments.recipes import git
from stages.edges.bad_input import Terminated, explained

NAME = "quickstart"
PICTURES = Path("quickstart")


def main() -> None:
    experiments = git("for-each-ref", "--format=%(refname)", f"refs/exps/**/{NAME}").split()
    for experiment in experiments:
        git("update-ref", "-d", experiment)
    # Its stages come from the cache where they have run before.
    if run("dvc", "exp", "run", "--temp", "--name", NAME, "-S", "download.dataset=mnist-5k"):
        sys.exit("quickstart: the experiment has failed; what is above says why")

    (experiment,) = git("for-each-ref", "--format=%(refname)", f"refs/exps/**/{NAME}").split()
    outputs = subprocess.run(
        ["git", "archive", experiment, "metrics", "plots"], check=True, capture_output=True
    ).stdout
    shutil.rmtree(PICTURES, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(outputs)) as archive:
        archive.extractall(PICTURES, filter="data")
    result = json.loads((PICTURES / "metrics/evaluate.json").read_text())
    test_images = len((PICTURES / "plots/predictions.csv").read_text().splitlines()) - 1
    print(f"""
The tutorial's network, trained on 4,000 digits, reads {test_images:,} others:

  Baseline Error: {result["baseline_error"]:.2f}% \
(interval {result["baseline_error_low"]:.2f}–{result["baseline_error_high"]:.2f})

Pictures:  {PICTURES}/plots/*.png
Type next: . .venv/bin/activate      then dvc is at hand
           make experiments          all of them in a table
           dvc exp run --temp -S download.dataset=mnist-5k -S train.epochs=20
           make repro                the same on all of MNIST (11 MB to download)""")


def run(*command: str) -> int:
    """Runs DVC to its end; its exit status. Ctrl-C ends the stage that it is running.

    DVC itself must not hear of it: it sets uncommitted changes aside while it prepares an
    experiment, and would leave them there.
    """
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except (KeyboardInterrupt, Terminated):
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if "-m" in child.cmdline():  # python -m stages.train
                        child.terminate()
            time.sleep(0.2)
        raise


if __name__ == "__main__":
    with explained():
        main()
