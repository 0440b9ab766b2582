"""`make quickstart` where a new user starts: in a clone of whatever kind, with edits."""

from pathlib import Path

import pytest

from stages.training.threads import THREADS
from tests.project import QUICKSTART, Project, activated

OPTIONS = "stages/results/parameters.py"


@pytest.mark.slow
def test_in_a_shallow_clone_beside_edits_and_without_hints(
    project: Project, tmp_path: Path
) -> None:
    project.git("commit", "--quiet", "--allow-empty", "--message", "A second commit")
    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", "--depth=1", project.folder.as_uri(), str(clone.folder))
    clone.dvc("cache", "dir", "--local", str(project.folder / ".dvc/cache"))
    clone.set({"evaluate": {"worst": 9}})
    (clone.folder / "docs/app.png").unlink()
    # New code that a stage depends on is part of what is run.
    (clone.folder / "stages/results/again.py").write_text((clone.folder / OPTIONS).read_text())
    evaluate = clone.folder / "stages/evaluate.py"
    code = evaluate.read_text()
    assert "results.parameters" in code
    evaluate.write_text(code.replace("results.parameters", "results.again"))
    before = clone.git("status", "--porcelain")
    # As on a machine where git has not been told who one is.
    known = [name for name in activated() if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))]
    output = clone.run("env", *(f"--unset={name}" for name in known), *QUICKSTART)

    assert "dvc exp apply" not in output
    assert "dvc push" not in output
    assert output.rstrip().endswith("the same on all of MNIST (11 MB to download)")
    assert clone.git("status", "--porcelain") == before
    assert (clone.folder / "quickstart/plots/samples.png").exists()
    row = clone.experiments()["quickstart"]
    assert row["params"]["params.yaml"]["data"]["evaluate"]["worst"] == 9
    assert not list(clone.folder.glob(".dvc/tmp/quickstart-*"))

    clone.commit("Another commit to start from")
    clone.run(*QUICKSTART)
    assert clone.git("for-each-ref", "refs/exps/**/quickstart").count("\n") == 1


def test_bad_parameters_are_told_before_any_work(project: Project) -> None:
    project.set({"train": {"epochs": -3}})
    output = project.run(*QUICKSTART, fails=True)
    assert output == "params.yaml: train.epochs is -3; it must be a whole number from 1 to 100000\n"


def test_a_wrong_number_of_threads_is_told_before_any_work(project: Project) -> None:
    output = project.run(*QUICKSTART, fails=True, environment={THREADS: "some"})
    assert output == f"{THREADS} is 'some'; it must be a whole number from 1 to 1024\n"
