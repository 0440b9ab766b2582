"""A copy of this project that has run on the embedded digits with a tiny network."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from stages.parts.datasets import embedded_mnist_5k
from stages.parts.scaling import Scaling
from tests.project import Project, copy_of_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that none of them is left over when all else is done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The project after `dvc repro`, committed. Do not change it: see `project`."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent  # which the test processes share
    project = Project(folder / "reproduced")
    with FileLock(folder / "reproduced.lock"):
        if not project.folder.exists():
            project = copy_of_project(folder / "reproducing")
            executed, _ = project.repro()
            assert executed == ["download", "normalize", "train", "evaluate"]
            project.commit("Run")
            project.folder = project.folder.rename(folder / "reproduced")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project, with its cache, to do with as you like."""
    shutil.copytree(reproduced.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained on mnist-5k, good enough for clear digits."""
    from stages.parts.network import build_network, save_network

    arrays = embedded_mnist_5k()
    scaling = Scaling(0.0, 255.0)
    network = build_network([128], seed=1)
    network.compile("adam", "sparse_categorical_crossentropy")
    x = scaling(arrays["x_train"])
    network.fit(x, np.array(arrays["y_train"]), epochs=8, batch_size=32, shuffle=False, verbose=0)
    path = tmp_path_factory.mktemp("model") / "handwritten_digit.h5"
    save_network(network, scaling, path)
    return path
