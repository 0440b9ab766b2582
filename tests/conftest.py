"""A copy of this project that has run on the embedded digits with a tiny network."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from stages.data.datasets import embedded_mnist_5k
from stages.data.scaling import Scaling
from tests.project import STAGES, Once, Project, copy_of_project

MODEL = "handwritten_digit.h5"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# On a busy machine an example may take long.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first, so that none of them is left over when all else is done.

    Slow is also what needs a pipeline that has run, or a trained model. The long ones are left out
    unless -m asks for them.
    """
    for item in items:
        if {"reproduced", "trained_model"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    if "long" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = [*reversed(slow), *quick]  # the slowest, the studies, are among the last


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors, as some tests wait for DVC's queue."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Makes a folder of a name, or waits until another of the test processes has made it."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).exists():
                partial = shared / f"{name}-in-the-making"
                shutil.rmtree(partial, ignore_errors=True)  # where another has failed to
                make(partial)
                partial.rename(shared / name)
        return shared / name

    return make_once


@pytest.fixture(scope="session")
def reproduced(once: Once) -> Project:
    """The project after `dvc repro`, committed. Do not change it: see `project`."""

    def make(folder: Path) -> None:
        project = copy_of_project(folder)
        executed, _ = project.repro()
        assert executed == STAGES
        project.commit("Run")

    return Project(once("reproduced", make))


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project, with its cache, to do with as you like."""
    shutil.copytree(reproduced.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def trained_model(once: Once) -> Path:
    """A small network trained on mnist-5k, good enough for clear digits."""

    def make(folder: Path) -> None:
        from stages.training.network import build_network, save_network

        arrays = embedded_mnist_5k()
        scaling = Scaling(0.0, 255.0)
        network = build_network([128], seed=1)
        network.compile("adam", "sparse_categorical_crossentropy")
        x, y = scaling(arrays["x_train"]), np.array(arrays["y_train"])
        network.fit(x, y, epochs=8, batch_size=32, shuffle=False, verbose=0)
        folder.mkdir()
        save_network(network, scaling, folder / MODEL)

    return once("trained-model", make) / MODEL


@pytest.fixture
def browser() -> Iterator[Browser]:
    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip("no browser here: install chromium to run this test")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()
