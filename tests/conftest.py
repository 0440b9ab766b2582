"""A copy of this project that has run on the embedded digits with a tiny network."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from stages.data.datasets import embedded_mnist_5k
from stages.data.scaling import Scaling
from tests.project import MODEL, STAGES, Once, Project, copy_of_project

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NEEDS_A_RUN = {"reproduced", "really_reproduced", "trained_model"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Test modules are compiled once, not by every worker, also where the environment says otherwise.
sys.dont_write_bytecode = False
# As at a terminal: after nohup, or started with &, what the tests start would ignore these.
for ending in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(ending) is signal.SIG_IGN:
        signal.signal(ending, signal.SIG_DFL)
# On a busy machine an example may take long.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first, so that none of them is left over when all else is done.

    Slow is also what needs a pipeline that has run, or a trained model. The long ones are left out
    unless -m asks for them.
    """
    for item in items:
        if NEEDS_A_RUN & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    if "long" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = [*reversed(slow), *quick]  # the slowest, the studies, are among the last


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Makes a folder of a name, or waits until another of the test processes has made it."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).exists():
                begun = shared / f"{name}-in-the-making"
                shutil.rmtree(begun, ignore_errors=True)  # where another has failed to
                make(begun)
                begun.rename(shared / name)
        return shared / name

    return make_once


@pytest.fixture(scope="session")
def reproduced(once: Once) -> Project:
    """The project, run with the stand-ins and committed. Do not change it: see `project`."""
    return Project(once("reproduced", partial(reproduce, stand_in=True)))


@pytest.fixture(scope="session")
def really_reproduced(once: Once) -> Project:
    """The same by the real stages, which import TensorFlow: see `real_project`."""
    return Project(once("really-reproduced", partial(reproduce, stand_in=False)))


def reproduce(folder: Path, stand_in: bool) -> None:
    project = copy_of_project(folder, stand_in)
    executed, _ = project.repro()
    assert executed == STAGES
    project.commit("Run")


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the project that the stand-ins have run, with its cache, to change at will."""
    return copied(reproduced, tmp_path)


@pytest.fixture
def real_project(really_reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the project that the real stages have run, with its cache, to change at will."""
    return copied(really_reproduced, tmp_path)


def copied(original: Project, folder: Path) -> Project:
    shutil.copytree(original.folder, folder / "project", symlinks=True)
    return Project(folder / "project")


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
        save_network(network, scaling, folder / Path(MODEL).name)

    return once("trained-model", make) / Path(MODEL).name


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One browser for a module's tests; each opens a context of its own in it.

    Not for the session: while it is open, no test of the same process may call asyncio.run().
    """
    from playwright.sync_api import sync_playwright

    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip("no browser here: install chromium to run this test")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()
