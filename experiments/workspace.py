"""What a study takes from the workspace, and what it brings there.

It changes nothing in it but reports and git's references to experiments. All else, also what DVC
does, happens in clones, so that no kill can touch what somebody has edited.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments.recipes import git, new_code
from experiments.scratch import Failed, Scratch
from experiments.training import DATA, Place, Snapshot, check_out, settings
from stages.data.mirrors import make_mirrors_absolute
from stages.edges.bad_input import BadInput

# In the folder that DVC keeps out of git, and so on the disk of the cache, to which it links.
CLONES = Path(".dvc/tmp/study")
LOCK = Path(".dvc/tmp/study.lock")


@contextmanager
def alone() -> Iterator[None]:
    """Waits until no other study is at work here, and clears away what a killed one has left."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another study is running in this folder; this one waits for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(CLONES, ignore_errors=True)
        yield


def take_snapshot() -> Snapshot:
    """The workspace as it is now: commit, uncommitted changes, and DVC's configuration.

    Raises:
        BadInput: there is no commit, or git does not know who commits.
    """
    shallow = Path(git("rev-parse", "--git-path", "shallow").strip())
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        git("bundle", "create", "--quiet", str(bundle), "HEAD")
        return Snapshot(
            bundle.read_bytes(),
            shallow.read_text() if shallow.exists() else "",
            uncommitted(Path()),
            configuration(),
            author(),
        )


def uncommitted(workspace: Path) -> bytes:
    """What differs from the commit that is checked out, as a patch.

    It has files that git does not know yet where a stage depends on them, since they are part of
    what is trained.
    """
    at = ("-C", str(workspace))
    new = new_code(workspace)
    with tempfile.TemporaryDirectory() as folder:
        # A copy of git's index, in which the new files are announced.
        index = Path(folder) / "index"
        shutil.copy(workspace / git(*at, "rev-parse", "--git-path", "index").strip(), index)
        if new:
            git(*at, "add", "--intent-to-add", "--", *new, index=index)
        patch = Path(folder) / "patch"
        # The plumbing, which no setting of this user changes.
        git(
            *(*at, "diff-index", "--patch", "--binary", "--full-index", f"--output={patch}"),
            *("--no-ext-diff", "--no-textconv", "HEAD"),
            index=index,
        )
        return patch.read_bytes()


def configuration() -> dict[str, dict[str, str]]:
    """What DVC is configured with, by the project or by the user, paths made absolute."""
    sections: dict[str, dict[str, str]] = {}
    for line in dvc("config", "--list").splitlines():
        name, value = line.split("=", 1)
        section, key = name.rsplit(".", 1)
        kind, _, named = section.partition(".")
        sections.setdefault(f'{kind} "{named}"' if named else kind, {})[key] = value
    return sections


def author() -> tuple[str, str]:
    """Name and e-mail address of whoever commits here.

    Raises:
        BadInput: git does not know them.
    """
    try:
        identity = git("var", "GIT_AUTHOR_IDENT")
    except BadInput:
        raise BadInput(
            "git does not know who you are, whom the experiments' commits name; "
            "git config user.name NAME and git config user.email ADDRESS tell it"
        ) from None
    name, address = identity.rsplit(">", 1)[0].split(" <")
    return name, address


def workspace_place(variables: Mapping[str, str]) -> Place:
    """Where trainings run on this machine: in clones that share the workspace's cache."""
    return Place(CLONES.absolute(), Path(dvc("cache", "dir").strip()), False, variables)


def prepare(snapshot: Snapshot, validation: int, remote: str | None) -> Snapshot:
    """Puts the data that the trainings share into the cache, and on a cluster into the remote.

    Returns:
        The snapshot, whose dvc.lock now tells of that data, so that no training makes it again.

    Raises:
        BadInput: the data cannot be made, or not be brought to the remote.
    """
    make_mirrors_absolute()
    place = workspace_place({})
    with Scratch(place.folder) as scratch:
        clone = check_out(snapshot, scratch, place)
        (change,) = settings({"normalize.validation": validation})
        try:
            scratch.run("dvc", "exp", "run", "--set-param", change, DATA, cwd=clone)
        except Failed as problem:
            raise BadInput(f"The data cannot be made:\n{problem}") from None
        if remote:
            try:
                scratch.run("dvc", "push", DATA, cwd=clone)
            except Failed as problem:
                raise BadInput(f"The data cannot be pushed to {remote}:\n{problem}") from None
        return snapshot._replace(patch=uncommitted(clone))


def adopt(experiment: bytes) -> None:
    """Adds an experiment to those of the workspace, from the bundle that `train` has given."""
    with tempfile.NamedTemporaryFile() as bundle:
        bundle.write(experiment)
        bundle.flush()
        git(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *(bundle.name, "+refs/exps/*:refs/exps/*"),
        )


def dvc(*arguments: str) -> str:
    """What DVC prints.

    Raises:
        BadInput: it failed; the message is DVC's.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise BadInput(f"dvc {arguments[0]} failed: {result.stderr.strip()}")
    return result.stdout
