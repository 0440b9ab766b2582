"""Thousands of mutated inputs: none gives a traceback, takes long, or much memory.

A seeded few in the suite; `pytest -m long tests/test_mutations.py` has 2,300.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, activated

QUICK = {"pictures": 40, "checkpoints": 40, "params": 40, "study": 40}
SLOW = {"models": 10, "lock": 15, "predictions": 15}
LONG = {
    **{"pictures": 600, "models": 200, "checkpoints": 400, "params": 400, "study": 400},
    **{"lock": 150, "predictions": 150},
}


def mutate(kind: str, count: int, seed: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations", kind, str(count), seed, str(folder)],
        cwd=ROOT,
        env=activated(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{count} {kind}: {result}")
    assert result["refused"] > 0
    assert result["slowest"] < 10
    assert result["peak_mb"] < 1_000


@pytest.mark.parametrize("kind", QUICK)
def test_a_few_mutated_inputs(kind: str, tmp_path: Path) -> None:
    mutate(kind, QUICK[kind], "few", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", SLOW)
def test_a_few_more(kind: str, tmp_path: Path, trained_model: Path) -> None:
    shutil.copy(trained_model, tmp_path)
    mutate(kind, SLOW[kind], "few", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", LONG)
def test_many_mutated_inputs(kind: str, tmp_path: Path, trained_model: Path) -> None:
    shutil.copy(trained_model, tmp_path)
    mutate(kind, LONG[kind], "many", tmp_path)
