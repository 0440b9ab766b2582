"""The whole pipeline on the embedded digits, as a DVC experiment: the workspace stays as it is."""

import json
import shutil
from pathlib import Path

from stages.edges.bad_input import explained, no_arguments
from stages.edges.replacing import replacing
from tools.elsewhere import run_experiment, workspace_copy
from tools.leftovers import name_leftovers
from tools.parameters import read_parameters

NAME = "quickstart"
PICTURES = Path("quickstart")


def main() -> None:
    read_parameters()
    name_leftovers()
    with workspace_copy(NAME) as clone:
        run_experiment(clone, NAME, ["download.dataset=mnist-5k"])
        with replacing(PICTURES) as partial:
            for results in ("metrics", "plots"):
                shutil.copytree(clone / results, partial / results)
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


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
