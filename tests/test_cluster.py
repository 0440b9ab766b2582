"""A study on a real Ray cluster: two nodes that have nothing in common but a bucket of S3."""

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from experiments.recipes import EXPERIMENTS
from stages.edges.bad_input import Terminated
from tests.project import MODEL, ROOT, Project, activated
from tests.test_study import SMALL, at_work, trains, wait_for

KEYS = ("KEY", "SECRET")
STUDY = (*SMALL, "--on", "test", "--epochs", "1", "2", "--seeds", "42", "43")


class Bucket:
    """A server of S3 with a bucket named data."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        self.start()

    def start(self) -> None:
        command = ["rclone", "serve", "s3", "--config", os.devnull, "--auth-key", ",".join(KEYS)]
        self.process = subprocess.Popen(
            [*command, "--addr", f"127.0.0.1:{self.port}", self.folder],
            env=activated(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while not answers(self.port):
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def be_missed(self) -> None:
        """Is away until somebody has asked for it in vain."""
        self.stop()
        with socket.create_server(("127.0.0.1", self.port)) as server:
            server.settimeout(600)
            server.accept()[0].close()
        self.start()


class Cluster:
    """Nodes of Ray, each with a home of its own and one processor to offer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.gate = folder / "gate"  # while it is there, trainings wait
        (folder / "token").write_text("0123456789abcdef" * 2)
        self.homes: list[Path] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a person sets to use the cluster."""
        return {
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "HOME": str(self.folder),
        }

    def start(self) -> None:
        """Starts one more node; the first is the head."""
        home = self.folder / f"home{len(self.homes)}"
        home.mkdir()
        command = ["ray", "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
        if self.homes:
            command += [f"--address=127.0.0.1:{self.port}"]
        else:
            command += ["--head", "--include-dashboard=false", f"--port={self.port}"]
            command += [f"--temp-dir={self.folder}/ray"]
            # Of two heads with the same one of these ports one would end at once.
            command += [f"--ray-client-server-port={free_port()}"]
        environment = self.environment | {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "TRAINING_GATE": str(self.gate),
            "RAY_process_group_cleanup_enabled": "1",
            "RAY_worker_niceness": "0",
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

    @property
    def trainings(self) -> list[Path]:
        """Where the trainings of each node have their clones."""
        return [home / "cache/mnist-study/trainings" for home in self.homes]

    def all_train(self) -> bool:
        return all(map(trains, self.trainings))

    def nothing_left(self) -> bool:
        return not any(
            at_work(folder) or (folder.exists() and any(folder.iterdir()))
            for folder in self.trainings
        )

    def kill(self, number: int, name: str) -> None:
        """Kills the process of a node whose name begins so: its raylet, or what trains for it."""
        (process,) = (
            process
            for process in psutil.Process(self.processes[number].pid).children(recursive=True)
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
    # Not tmp_path: the name of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def use(project: Project, bucket: Bucket, bucket_name: str = "data", secret: str = KEYS[1]) -> None:
    """Has the project use the bucket as its remote."""
    (project.folder / ".dvc/config.local").write_text(f"""
[core]
    remote = storage
['remote "storage"']
    url = s3://{bucket_name}/study
    endpointurl = http://127.0.0.1:{bucket.port}
    access_key_id = {KEYS[0]}
    secret_access_key = {secret}
""")


def test_packages_that_differ_are_named() -> None:
    from experiments.cluster import differences, pinned

    packages = pinned((ROOT / "requirements.txt").read_text())
    assert len(packages) > 50
    assert differences(packages) == ""
    told = differences(["numpy==1.0", "none-such==2.0", "none-such==3.0; python_version < '3'"])
    assert re.match(r"numpy [\d.]+ instead of ==1.0, none-such none instead of ==2.0; res", told)


def test_a_node_needs_no_copy_of_the_project(tmp_path: Path) -> None:
    from ray import cloudpickle

    from experiments.cluster import train_on_node

    task = cloudpickle.dumps((train_on_node, (None, ["numpy==1.0"], {}, "name", {})))
    assert pickle.loads(task)[0] is not None  # noqa: S301
    output = subprocess.run(
        [
            *(sys.executable, "-I", "-c"),
            "import pickle, sys; f, a = pickle.load(sys.stdin.buffer); print(f(*a))",
        ],
        cwd=tmp_path,
        input=task,
        check=True,
        capture_output=True,
    ).stdout
    assert b"instead of ==1.0" in output


@pytest.mark.long
def test_a_team_shares_data_models_and_experiments(
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

    # By somebody who has no clone.
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Project(tmp_path / "elsewhere")
    dvc("get", shared, MODEL, "--out=got.h5", at=elsewhere)
    dvc("artifacts", "get", shared, "handwritten-digit", "--rev=v1.0.0", at=elsewhere)
    model = (project.folder / MODEL).read_bytes()
    assert (elsewhere.folder / "got.h5").read_bytes() == model
    assert (elsewhere.folder / "handwritten_digit.h5").read_bytes() == model


@pytest.mark.long
def test_what_is_wrong_at_the_start_is_told_in_a_line(
    project: Project, bucket: Bucket, cluster: Cluster
) -> None:
    def refused(**environment: str) -> str:
        output = project.run(*STUDY, fails=True, environment=cluster.environment | environment)
        assert "Traceback" not in output
        (first, *lines) = output.splitlines()
        assert first.startswith("Trainings: ")
        assert not cluster.trainings[0].exists()
        return "\n".join(lines)

    assert "DVC has no default remote" in refused()
    use(project, bucket)
    nobody = f"127.0.0.1:{free_port()}"
    assert refused(RAY_ADDRESS=nobody).startswith(f"RAY_ADDRESS: nobody answers at {nobody}")
    assert refused(RAY_ADDRESS="head").startswith("RAY_ADDRESS is 'head'; it must be HOST:PORT")
    (cluster.folder / "other").write_text("f" * 32)
    for path in ("other", "missing"):
        told = refused(RAY_AUTH_TOKEN_PATH=str(cluster.folder / path))
        assert told.startswith("RAY_ADDRESS: no Ray cluster at 127.0.0.1:")
        assert "the token (RAY_AUTH_TOKEN_PATH, or" in told
    requirements = project.folder / "requirements.txt"
    before = requirements.read_text()
    requirements.write_text(f"{before}none-such==1.0\n")
    assert re.match(r"Node .*: none-such none instead of ==1.0; results would not be", refused())
    requirements.write_text(before)
    use(project, bucket, secret="WRONG")  # noqa: S106
    told = refused()
    assert "The data cannot be pushed to the remote storage (s3://data/study)" in told
    assert "Forbidden" in told
    use(project, bucket, "none")
    told = refused()
    assert "The data cannot be pushed to the remote storage (s3://none/study)" in told
    assert "bucket does not exist" in told
    bucket.stop()
    assert "The data cannot be pushed to the remote storage (s3://none/study)" in refused()


def start(
    project: Project, cluster: Cluster, log: Path, *options: str
) -> "subprocess.Popen[bytes]":
    """Starts a study of two trainings."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*STUDY, *options],
            cwd=project.folder,
            env=activated() | cluster.environment,
            stdout=file,
            stderr=file,
        )


@pytest.mark.slow
def test_a_study_on_two_nodes_survives_what_can_go_wrong(
    project: Project, bucket: Bucket, cluster: Cluster, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    cluster.start()
    use(project, bucket)
    lock = project.read("dvc.lock")
    # So that the default seed is to be trained too.
    project.git("reset", "--quiet", "--soft", "HEAD~1")
    project.git("rm", "-r", "--quiet", "--force", "dvc.lock", "metrics", "plots")
    project.commit("No results")

    cluster.gate.touch()
    study = start(project, cluster, log)
    wait_for(cluster.all_train, 600, log)
    cluster.kill(1, "raylet")
    cluster.gate.unlink()
    bucket.be_missed()
    # The other node takes that training over, and its worker dies.
    wait_for(lambda: "1 of 2 trained" in log.read_text(), 600, log)
    wait_for(lambda: trains(cluster.trainings[0]), 600, log)
    cluster.kill(0, "ray::train_on_node")
    assert study.wait(600) == 0, log.read_text()
    assert not re.search("Traceback|raylet", log.read_text())
    assert cluster.nothing_left()

    experiments = project.git("for-each-ref", "--format=%(refname)", EXPERIMENTS).split()
    names = [experiment.rpartition("/")[2] for experiment in sorted(experiments)]
    assert [name.rpartition("-")[0] for name in names] == [
        "study-8-epochs-2-seed-42",
        "study-8-epochs-2-seed-43",
    ]
    # The same bytes as here, also those trained elsewhere, and models to be had.
    assert project.git("show", f"{experiments[0]}:dvc.lock") == lock
    assert "Is your cache up to date?" in project.dvc("exp", "apply", names[1], fails=True)
    project.dvc("pull")
    assert (project.folder / MODEL).exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_ends_leaves_nothing_on_the_nodes(
    project: Project, bucket: Bucket, cluster: Cluster, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    cluster.start()
    use(project, bucket)
    cluster.gate.touch()
    study = start(project, cluster, log, "--seeds", "43", "44")  # of which there are no results
    wait_for(cluster.all_train, 600, log)
    study.send_signal(number)
    assert study.wait(20) == -number, log.read_text()
    wait_for(cluster.nothing_left, 20, log)
    assert project.git("for-each-ref", EXPERIMENTS) == ""


def test_a_signal_ends_a_study_but_after_nohup_a_hang_up_does_not() -> None:
    from experiments.cluster import interruptible

    with pytest.raises(Terminated), interruptible():
        signal.raise_signal(signal.SIGTERM)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
