"""`make reader`: the experiment of reader.yaml, beside edits that it leaves alone."""

import re
from pathlib import Path

import pytest

from stages.edges.bad_input import BadInput
from tests.project import ROOT, TUTORIAL, Project, set_parameters
from tools.reader import read_settings

SETTINGS = "reader.yaml"


@pytest.mark.slow
def test_it_is_an_experiment_compared_with_head(project: Project) -> None:
    settings = "train: {epochs: 1, schedule: cosine}\nwarp: {rotation: 10, elastic_amplitude: 1}\n"
    (project.folder / SETTINGS).write_text(settings)
    project.set({"evaluate": {"worst": 9}})
    before = project.git("status", "--porcelain")
    output = project.run("python", "-m", "tools.reader")

    assert project.git("status", "--porcelain") == before
    parameters = project.experiments()["reader"]["params"]["params.yaml"]["data"]
    assert parameters["train"]["schedule"] == "cosine"
    assert parameters["warp"]["rotation"] == 10
    assert parameters["evaluate"]["worst"] == 9
    assert "A: HEAD" in output
    assert "B: reader" in output
    assert "warp.elastic_amplitude" in output
    assert "dvc exp apply reader" in output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("warp: {rotation: 91}", "warp.rotation is 91; it must be a number from 0 to 90: degrees"),
        ("train: {epoch: 3}", "train.epoch is not a parameter; train has epochs, batch_size"),
        ("train: 3", "train is 3; it must be a section with epochs"),
        ("wrap: {shift: 1}", "wrap is not a section; the sections are download, normalize"),
        ("[]", "the file holds []; it must hold the sections download"),
        ("train: {batch_size: 5000}", "train.batch_size is 5000; it must be a whole number from"),
        ("train: {", "is not valid YAML"),
    ],
)
def test_wrong_settings_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    set_parameters(tmp_path, TUTORIAL)
    (tmp_path / SETTINGS).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=rf"\A{SETTINGS}:? {re.escape(problem)}.*\Z"):
        read_settings()


def test_the_committed_settings_suit_params_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert read_settings()["warp"]["rotation"] > 0
