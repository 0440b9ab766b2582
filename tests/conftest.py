"""A copy of this project that has run on the embedded digits with a tiny network."""

import shutil
from pathlib import Path

import pytest

from tests.project import Project, copy_of_project


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`, committed. Do not change it: see `project`."""
    project = copy_of_project(tmp_path_factory.mktemp("reproduced") / "project")
    executed, _ = project.repro()
    assert executed == ["download", "normalize", "train", "evaluate"]
    project.commit("Run")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project, with its cache, to do with as you like."""
    shutil.copytree(reproduced.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
