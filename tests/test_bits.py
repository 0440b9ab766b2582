"""The same bytes on every rerun, whatever the machine is told by others than params.yaml."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.project import Once, Project

pytestmark = pytest.mark.slow
MODEL = "models/handwritten_digit.h5"
# The tutorial's network: large enough for threads and instructions to change its bits.
NETWORK: dict[str, dict[str, Any]] = {
    "model": {"hidden_units": [512, 256, 128]},
    "train": {"epochs": 1, "batch_size": 32},
}
# Where there is taskset, which is Linux's.
ONE_CORE = (
    ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))) if shutil.which("taskset") else ()
)


@pytest.fixture(scope="session")
def trained(reproduced: Project, once: Once) -> Project:
    """The project with a model of the tutorial's network. Do not change it: see `copy`."""

    def make(folder: Path) -> None:
        shutil.copytree(reproduced.folder, folder, symlinks=True)
        project = Project(folder)
        project.set(NETWORK)
        project.dvc("repro")
        project.commit("Train the tutorial's network")

    return Project(once("trained", make))


@pytest.fixture
def copy(trained: Project, tmp_path: Path) -> Project:
    """The same in another directory, of another length."""
    folder = tmp_path / "elsewhere/in another directory"
    shutil.copytree(trained.folder, folder, symlinks=True)
    return Project(folder)


def model_of(project: Project) -> bytes:
    return (project.folder / MODEL).read_bytes()


def test_the_model_has_the_same_bytes_in_another_environment(
    trained: Project, copy: Project
) -> None:
    (copy.folder / MODEL).unlink()
    copy.run(
        *ONE_CORE,
        *("python", "-m", "stages.train"),
        environment={
            "TF_NUM_INTRAOP_THREADS": "4",
            "TF_NUM_INTEROP_THREADS": "3",
            "OMP_NUM_THREADS": "2",
            "DNNL_MAX_CPU_ISA": "SSE41",
            "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "PYTHONHASHSEED": "12",
        },
    )

    assert model_of(copy) == model_of(trained)


def test_forced_again_by_an_experiment_and_the_queue_the_lock_is_the_same(
    trained: Project, copy: Project
) -> None:
    # Nothing in the cache can stand in for what they compute.
    shutil.rmtree(copy.folder / ".dvc/cache/runs")
    copy.dvc("exp", "run", "--temp", "--force", "--name", "temporary")
    copy.dvc("exp", "run", "--queue", "--force", "--name", "queued")
    copy.dvc("queue", "start")
    copy.wait_for_queue(2)

    for name in ("temporary", "queued"):
        commit = copy.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}").strip()
        assert copy.git("show", f"{commit}:dvc.lock") == trained.read("dvc.lock")


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_two_threads_give_other_bits(trained: Project, copy: Project) -> None:
    """That is why train.threads is a parameter; and the tests above can fail."""
    copy.set({"train": {"threads": 2}})
    copy.run("python", "-m", "stages.train")

    assert model_of(copy) != model_of(trained)
