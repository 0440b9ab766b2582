"""Fixtures: copies of this project after a pipeline run, a trained model and a browser."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from stages.data.datasets import load_mnist_5k
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
# Workers share the compiled test modules, even if PYTHONDONTWRITEBYTECODE is set.
sys.dont_write_bytecode = False
# Child processes inherit ignored signals: otherwise tests would fail under nohup.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
# No time limit for a Hypothesis example: the machine may be busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Runs slow tests first, so that all workers finish at about the same time.

    Tests that need a pipeline run or a trained model are slow, too. Tests marked `long` run only
    with an -m option that names this mark.
    """
    for item in items:
        if NEEDS_A_RUN & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    if "long" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    # Reversed: the studies, which take longest, are among the last files.
    items[:] = [*reversed(slow), *quick]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Returns a function that makes a directory once for all test processes."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).exists():
                partial_folder = shared / f"partial-{name}"
                shutil.rmtree(partial_folder, ignore_errors=True)  # of an attempt that failed
                make(partial_folder)
                partial_folder.rename(shared / name)
        return shared / name

    return make_once


@pytest.fixture(scope="session")
def reproduced(once: Once) -> Project:
    """The project after a committed run of the stand-ins. Do not change it; use `project`."""
    return Project(once("reproduced", partial(reproduce, stand_in=True)))


@pytest.fixture(scope="session")
def really_reproduced(once: Once) -> Project:
    """The same with the real stages. Do not change it; use `real_project`."""
    return Project(once("really-reproduced", partial(reproduce, stand_in=False)))


def reproduce(folder: Path, stand_in: bool) -> None:
    project = copy_of_project(folder, stand_in)
    executed, _ = project.repro()
    assert executed == STAGES
    project.commit("Run")


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of `reproduced`, with its cache, for one test."""
    return copied(reproduced, tmp_path)


@pytest.fixture
def real_project(really_reproduced: Project, tmp_path: Path) -> Project:
    """A copy of `really_reproduced`, with its cache, for one test."""
    return copied(really_reproduced, tmp_path)


@pytest.fixture
def stage(real_project: Project, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stage train, whose main() trains `real_project` in this process."""
    from stages import train

    monkeypatch.chdir(real_project.folder)
    # TensorFlow takes no other number of threads after its first computation in a process.
    monkeypatch.setattr(train, "set_threads", lambda: None)
    return train


def copied(original: Project, folder: Path) -> Project:
    shutil.copytree(original.folder, folder / "project", symlinks=True)
    return Project(folder / "project")


@pytest.fixture(scope="session")
def trained_model(once: Once) -> Path:
    """Model file of a small network trained on mnist-5k, accurate enough for clear digits."""

    def make(folder: Path) -> None:
        from stages.training.build_network import build_network
        from stages.training.model_file import save_network

        arrays = load_mnist_5k()
        scaling = Scaling(0.0, 255.0)
        network = build_network([128], 1, (28, 28), 10)
        network.compile("adam", "sparse_categorical_crossentropy")
        x, y = scaling(arrays["x_train"]), np.array(arrays["y_train"])
        network.fit(x, y, epochs=8, batch_size=32, shuffle=False, verbose=0)
        folder.mkdir()
        save_network(network, ["accuracy"], scaling, folder / Path(MODEL).name)

    return once("trained-model", make) / Path(MODEL).name


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One browser for all tests of a module; each test opens its own context.

    Its scope is not the session: while it is open, asyncio.run() fails in the same process.
    """
    from playwright.sync_api import sync_playwright

    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip("needs a browser: install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()
