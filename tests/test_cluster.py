"""A study on a real Ray cluster of two nodes, which share nothing but a bucket of S3."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from experiments.study.cluster import package_differences
from tests.project import ROOT, Project, activated
from tests.test_study import is_training, processes_in, wait_for

KEYS = ("KEY", "SECRET")
TRIALS = "cache/mnist-study/trials"  # in the home directory of a node
STUDY = (sys.executable, "-m", "experiments.study", "--on", "test", "--hidden-units", "8")


class Bucket:
    """A server of S3 with a bucket named data."""

    def __init__(self, directory: Path) -> None:
        (directory / "data").mkdir(parents=True)
        self.port = free_port()
        command = ["rclone", "serve", "s3", "--config", os.devnull, "--auth-key", ",".join(KEYS)]
        self.process = subprocess.Popen(
            [*command, "--addr", f"127.0.0.1:{self.port}", directory],
            env=activated(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not is_listening(self.port):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Cluster:
    """Nodes of Ray, each with its own home directory and one processor.

    Trainings wait while the file `gate` exists.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.gate = directory / "gate"
        (directory / "token").write_text("0123456789abcdef" * 2)
        self.homes: list[Path] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a user sets."""
        return {
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.directory / "token"),
            "HOME": str(self.directory),
        }

    def start_node(self) -> None:
        """Starts a node; the first one is the head."""
        home = self.directory / f"home{len(self.homes)}"
        home.mkdir()
        role = (
            [f"--address=127.0.0.1:{self.port}"]
            if self.homes
            else [
                *("--head", "--include-dashboard=false", f"--port={self.port}"),
                f"--temp-dir={self.directory}/ray",
                f"--ray-client-server-port={free_port()}",  # two heads cannot share the default
            ]
        )
        command = ["ray", "start", *role, "--block", "--num-cpus=1", "--disable-usage-stats"]
        environment = self.environment | {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "RAY_process_group_cleanup_enabled": "1",
            "RAY_worker_niceness": "0",
            "TRAINING_GATE": str(self.gate),
        }
        del environment["RAY_ADDRESS"]
        log = home / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--object-store-memory=80000000"],
                cwd=home,
                env=activated() | environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.homes.append(home)
        self.processes.append(process)
        wait_for(lambda: "Ray runtime started" in log.read_text(), 200, log)

    def is_training(self) -> bool:
        """Whether each node trains."""
        return all(is_training(home / TRIALS) for home in self.homes)

    def is_clean(self) -> bool:
        """Whether no node has a process or a directory of a trial."""
        return not any(
            processes_in(home / TRIALS) or list((home / TRIALS).glob("*")) for home in self.homes
        )

    def kill(self, node: int, name: str) -> None:
        """Kills the process of a node with this name: its raylet, or its worker."""
        (process,) = (
            process
            for process in psutil.Process(self.processes[node].pid).children(recursive=True)
            if process.name().startswith(name)
        )
        process.kill()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(60)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    bucket = Bucket(tmp_path / "bucket")
    yield bucket
    bucket.stop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # Not tmp_path: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-") as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start_node()
            yield cluster
        finally:
            cluster.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def add_remote(project: Project, bucket: Bucket) -> None:
    project.dvc("remote", "add", "--local", "--default", "storage", "s3://data/study")
    for key, value in (
        ("endpointurl", f"http://127.0.0.1:{bucket.port}"),
        ("access_key_id", KEYS[0]),
        ("secret_access_key", KEYS[1]),
    ):
        project.dvc("remote", "modify", "--local", "storage", key, value)


def test_packages_with_other_versions() -> None:
    assert package_differences((ROOT / "requirements.txt").read_text()) == []
    numpy = version("numpy")
    pins = "numpy==1.0 ; python_version < '3' \\\n    --hash=sha256:0\nnone-such==2.0\n"
    assert package_differences(pins) == [f"numpy {numpy} instead of 1.0"]
    assert package_differences(f"{pins}numpy=={numpy} ; python_version >= '3'\n") == []


@pytest.mark.slow
@pytest.mark.xdist_group("cluster")
def test_team_shares_data_models_and_experiments(
    project: Project, bucket: Bucket, tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1]}

    def dvc(*arguments: str, at: Project = project) -> str:
        return at.run("dvc", *arguments, environment=keys)

    dvc("remote", "add", "--default", "storage", "s3://data/team")
    dvc("remote", "modify", "storage", "endpointurl", f"http://127.0.0.1:{bucket.port}")
    project.commit("Remote")
    shared = (tmp_path / "shared").as_uri()
    project.git("clone", "--quiet", "--bare", ".", str(tmp_path / "shared"))
    project.git("remote", "add", "origin", shared)
    project.git("tag", "--annotate", "--message=First", "handwritten-digit@v1.0.0")
    project.git("push", "--quiet", "origin", "handwritten-digit@v1.0.0")
    dvc("push")
    dvc("exp", "save", "--name", "ours")
    dvc("exp", "push", "origin", "ours")

    project.git("clone", "--quiet", shared, str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    dvc("pull", at=clone)
    assert "up to date" in dvc("status", at=clone)
    assert clone.repro() == ([], [])
    dvc("exp", "pull", "origin", "ours", at=clone)
    assert "ours" in dvc("exp", "list", "--name-only", at=clone)

    # A user without a clone gets the model.
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Project(tmp_path / "elsewhere")
    dvc("get", shared, "models/handwritten_digit.h5", "--out=got.h5", at=elsewhere)
    dvc("artifacts", "get", shared, "handwritten-digit", "--rev=v1.0.0", at=elsewhere)
    model = (project.folder / "models/handwritten_digit.h5").read_bytes()
    assert (elsewhere.folder / "got.h5").read_bytes() == model
    assert (elsewhere.folder / "handwritten_digit.h5").read_bytes() == model


@pytest.mark.long
def test_errors_of_a_cluster(project: Project, bucket: Bucket, cluster: Cluster) -> None:
    def error(**variables: str) -> str:
        command = (*STUDY, "--seeds", "7")
        output = project.run(*command, fails=True, environment=cluster.environment | variables)
        assert "Traceback" not in output
        first, *lines = output.splitlines()
        assert first.startswith("Trials: 0 of")
        return "\n".join(lines)

    assert "RAY_ADDRESS is set; expected a default remote of DVC" in error()
    add_remote(project, bucket)
    unused = f"127.0.0.1:{free_port()}"
    assert error(RAY_ADDRESS=unused).startswith(f"RAY_ADDRESS is {unused}; nothing listens there")
    assert error(RAY_ADDRESS="head").startswith("RAY_ADDRESS is 'head'; expected HOST:PORT")
    (cluster.directory / "other").write_text("f" * 32)
    for path in ("other", "missing"):
        message = error(RAY_AUTH_TOKEN_PATH=str(cluster.directory / path))
        assert message.startswith(f"RAY_ADDRESS is 127.0.0.1:{cluster.port}; the cluster there")
        assert "its token (RAY_AUTH_TOKEN_PATH, or" in message
    requirements = project.folder / "requirements.txt"
    pins = requirements.read_text()
    requirements.write_text(re.sub("^numpy==[^ ]+", "numpy==1.0", pins, flags=re.MULTILINE))
    message = error()
    assert message.count("packages differ from requirements.txt") == 1
    assert re.search(r"not be comparable: numpy \S+ instead of 1\.0\. Run there", message)
    assert re.search("study: 1 of 1 trials failed 3 times", message)
    requirements.write_text(pins)
    project.dvc("remote", "modify", "--local", "storage", "secret_access_key", "WRONG")
    message = error()
    assert "the data cannot be pushed to the remote storage (s3://data/study)" in message
    assert "Forbidden" in message
    bucket.stop()
    assert "the data cannot be pushed to the remote storage (s3://data/study)" in error()
    assert not (cluster.homes[0] / TRIALS).exists()


@pytest.mark.slow
@pytest.mark.xdist_group("cluster")
def test_study_on_two_nodes(
    project: Project, bucket: Bucket, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start_node()
    add_remote(project, bucket)
    lock = project.read("dvc.lock")
    project.git("rm", "-r", "--quiet", "dvc.lock", "metrics", "plots")
    project.commit("No results")
    log = tmp_path / "log"
    options = ("--epochs", "1", "2", "--seeds", "42", "43")

    def start() -> "subprocess.Popen[bytes]":
        with log.open("ab") as file:
            return subprocess.Popen(
                [*STUDY, *options],
                cwd=project.folder,
                env=activated() | cluster.environment,
                stdout=file,
                stderr=file,
            )

    cluster.gate.touch()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        study = start()
        wait_for(cluster.is_training, 600, log)
        study.send_signal(number)
        began = time.monotonic()
        assert study.wait(20) == -number, log.read_text()
        wait_for(cluster.is_clean, 20, log)
        print(f"{number.name}: {time.monotonic() - began:.1f} s")
    assert project.git("for-each-ref", "refs/exps") == ""

    # A node and a worker die. The trials of both run again on the node that is left.
    study = start()
    wait_for(cluster.is_training, 600, log)
    cluster.kill(1, "raylet")
    cluster.kill(0, "ray::run_on_node")
    cluster.gate.unlink()
    assert study.wait(600) == 0, log.read_text()
    assert not re.search("Traceback|raylet|failed:", log.read_text())
    wait_for(cluster.is_clean, 20, log)

    experiments = sorted(project.experiments())
    assert [name.rpartition("-")[0] for name in experiments] == [
        "study-8-epochs-2-seed-42",
        "study-8-epochs-2-seed-43",
    ]
    # The results have the same bytes as on this machine; models come from the bucket.
    assert project.git("show", f"refs/exps/{reference(project, experiments[0])}:dvc.lock") == lock
    assert "Is your cache up to date?" in project.dvc("exp", "apply", experiments[1], fails=True)
    project.dvc("pull")
    assert "up to date" in project.dvc("status")
    # Credentials are not among the files that Ray sends.
    assert list(cluster.directory.glob("ray/**/snapshot.git"))
    assert not list(cluster.directory.glob("ray/**/config.local"))


def reference(project: Project, experiment: str) -> str:
    pattern = f"refs/exps/*/*/{experiment}"
    return project.git("for-each-ref", "--format=%(refname:lstrip=2)", pattern).strip()
