"""Trains one experiment from a snapshot of the workspace, on this machine or on another.

It knows nothing of whoever asks for it, threads or a cluster. It is also sent to the nodes of a
cluster, which have git and the packages of requirements.txt, but no copy of the project.
"""

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from configobj import ConfigObj

from experiments.scratch import Failed, Scratch

# Seconds between attempts to reach a remote that was there a while ago: over a minute in all.
PAUSES = (1, 2, 4, 8, 16, 32)
NO_PAUSES = ()
DATA = "normalize"  # the stage whose outputs all trainings share
BASE = "FETCH_HEAD"


class Snapshot(NamedTuple):
    """A workspace at one moment: all that a training of it needs, but the data.

    Attributes:
        bundle: the commit that is checked out, with its history, as `git bundle` writes it.
        shallow: where that history ends, in a shallow clone; otherwise empty.
        patch: what is not committed, as `git diff --binary` writes it.
        config: DVC's, of all levels: section to key to value.
        author: name and e-mail address for the experiments' commits.
    """

    bundle: bytes
    shallow: str
    patch: bytes
    config: dict[str, dict[str, str]]
    author: tuple[str, str]


class Place(NamedTuple):
    """Where trainings run.

    Attributes:
        folder: where each has its clone, while it runs.
        cache: DVC's, which they share.
        remote: whether data comes from DVC's remote and models go there; otherwise the cache
            has the one and keeps the other.
        variables: what is added to the environment of the stages.
    """

    folder: Path
    cache: Path
    remote: bool
    variables: Mapping[str, str]


def train(
    snapshot: Snapshot,
    name: str,
    changes: Mapping[str, Any],
    place: Place,
    stop: Event | None = None,
) -> bytes:
    """Runs an experiment in a clone of its own, which is gone afterwards.

    Args:
        snapshot: of the workspace that it belongs to.
        name: the experiment's.
        changes: what it changes in params.yaml, by name, such as train.seed.
        place: where it runs.
        stop: once it is set, the training is ended and raises Stopped.

    Returns:
        The experiment's commit, as `git bundle` writes it, on top of the snapshot's.

    Raises:
        Failed: the training, or what it needs; the message is the last lines of the output.
    """
    with Scratch(place.folder, stop, place.variables) as scratch:
        clone = check_out(snapshot, scratch, place)
        if place.remote:
            persist(scratch, clone, PAUSES, "dvc", "fetch", DATA)
        scratch.run(
            *("dvc", "exp", "run", "--allow-missing", "--name", name),
            *(f"--set-param={change}" for change in settings(changes)),
            cwd=clone,
        )
        (experiment,) = scratch.run(
            "git", "for-each-ref", "--format=%(refname)", f"refs/exps/**/{name}", cwd=clone
        ).split()
        if place.remote:
            persist(scratch, clone, PAUSES, "dvc", "push")
        result = scratch.folder / "result"
        scratch.run(
            *("git", "bundle", "create", "--quiet", str(result), experiment, "--not", BASE),
            cwd=clone,
        )
        return result.read_bytes()


def fetch(snapshot: Snapshot, place: Place) -> None:
    """Brings the data from DVC's remote into the cache, in one attempt.

    Raises:
        Failed: it cannot be had; the message is the last lines of the output.
    """
    with Scratch(place.folder, None, place.variables) as scratch:
        persist(scratch, check_out(snapshot, scratch, place), NO_PAUSES, "dvc", "fetch", DATA)


def check_out(snapshot: Snapshot, scratch: Scratch, place: Place) -> Path:
    """Makes a clone of the workspace as it was, with what was not committed."""
    clone = scratch.folder / "clone"
    files = {"bundle": snapshot.bundle, "patch": snapshot.patch}
    for name, content in files.items():
        (scratch.folder / name).write_bytes(content)
    scratch.run("git", "init", "--quiet", str(clone))
    if snapshot.shallow:
        (clone / ".git/shallow").write_text(snapshot.shallow)
    name, email = snapshot.author
    for command in (
        ("git", "config", "user.name", name),
        ("git", "config", "user.email", email),
        ("git", "fetch", "--quiet", "../bundle", "HEAD"),
        ("git", "checkout", "--quiet", "--detach", BASE),
        # --index, so that new files are those of the experiment too.
        ("git", "apply", "--index", "--allow-empty", "--whitespace=nowarn", "../patch"),
    ):
        scratch.run(*command, cwd=clone)
    config = ConfigObj(snapshot.config)
    config.setdefault("cache", {})["dir"] = str(place.cache)
    # Otherwise DVC would leave a folder for each clone in /var/tmp.
    config.setdefault("core", {})["site_cache_dir"] = str(scratch.folder / "site")
    with (clone / ".dvc/config.local").open("wb") as file:
        config.write(file)
    return clone


def persist(scratch: Scratch, clone: Path, pauses: tuple[int, ...], *command: str) -> None:
    """Runs a command that needs DVC's remote, again after each pause while it fails."""
    for pause in pauses:
        try:
            scratch.run(*command, cwd=clone)
        except Failed:
            scratch.wait(pause)
        else:
            return
    scratch.run(*command, cwd=clone)


def settings(changes: Mapping[str, Any]) -> list[str]:
    """Changes of params.yaml as `dvc exp run --set-param` takes them."""
    return [f"{key}={str(value).replace(' ', '')}" for key, value in changes.items()]
