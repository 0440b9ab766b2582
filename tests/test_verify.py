"""`make verify`: real runs of the committed pipeline elsewhere."""

import json

import pytest
import yaml

from tests.project import ROOT, SCORES, Project
from tools.verify import outputs


@pytest.mark.slow
def test_a_forged_metric_is_found(project: Project) -> None:
    scores = json.loads(project.read(SCORES))
    (project.folder / SCORES).write_text(json.dumps(scores | {"baseline_error": 0.01}))
    project.dvc("commit", "--force", "evaluate")
    project.commit("Forge the error")
    output = project.run("python", "-m", "tools.verify", fails=True)

    verdicts = dict(line.split(maxsplit=1) for line in output.splitlines() if "  " in line)
    assert " is now " in verdicts.pop(SCORES)
    assert set(verdicts) == set(outputs(yaml.safe_load(project.read("dvc.lock")))) - {SCORES}
    assert set(verdicts.values()) == {"identical"}
    assert f"baseline_error {scores['baseline_error']:.2f}% instead of 0.01%" in output
    assert "OUTSIDE" not in output  # the interval was not forged
    assert "All bytes are identical" not in output


def test_without_results_it_is_told_in_a_line(project: Project) -> None:
    project.git("rm", "--quiet", "dvc.lock")
    project.commit("No lock")
    output = project.run("python", "-m", "tools.verify", fails=True)
    assert output == "verify: HEAD has no dvc.lock; commit it\n"


def test_asking_for_help_runs_nothing(project: Project) -> None:
    output = project.run("python", "-m", "tools.verify", "--help")
    assert output.startswith("usage: python -m tools.verify")
    assert "Running stage" not in output
    for tool in ("quickstart", "reader", "leftovers", "parameters"):
        assert "no_arguments(__doc__)\n" in (ROOT / f"tools/{tool}.py").read_text()
