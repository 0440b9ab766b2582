"""Temporary clones of the repository, in which DVC runs experiments.

`dvc exp run` moves uncommitted edits into git's stash for a moment, and a kill then leaves them
there. So experiments run in a clone, and the user's files are not touched.
"""

import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from configobj import ConfigObj

from experiments.repository.lock import DVC_TMP, exclusive_lock
from experiments.repository.pipeline import dependency_paths, raise_if_frozen, read_stages
from experiments.repository.subprocesses import dvc, git
from experiments.repository.temporary_directory import kill_processes_in, temporary_directory
from stages.common.errors import UserError

# check_repository has found that the user trusts the repository if another user owns it. But git
# asks again for its .git directory, and the process that reads it gets none of our settings.
TRUST = ("-c", "safe.directory=*")
UPLOAD_PACK = "git -c 'safe.directory=*' upload-pack"


@contextmanager
def temporary_clone(purpose: str, include_uncommitted: bool = True) -> Iterator[Path]:
    """Yields a clone of the repository, which is removed afterwards, also after a SIGKILL.

    Args:
        purpose: such as `quickstart`. A second process with the same purpose waits, then removes
            what a killed one left.
        include_uncommitted: whether the clone contains uncommitted changes, and uses the user's
            cache and configuration of DVC. Otherwise it contains HEAD only, with an empty cache.

    Raises:
        UserError: this is not a git repository with a commit, or a stage is frozen.
    """
    check_repository()
    if include_uncommitted:
        raise_if_frozen(read_stages())
    with exclusive_lock(purpose):
        for leftover in DVC_TMP.glob(f"{purpose}-*"):
            kill_processes_in(leftover)
            shutil.rmtree(leftover, ignore_errors=True)
        with temporary_directory(DVC_TMP, f"{purpose}-") as directory:
            clone = directory / "clone"
            fetch_missing_files("HEAD")
            # cwd: the watchdog kills the processes in this directory, this one included.
            options = ("--quiet", "--template=", "--no-checkout", f"--upload-pack={UPLOAD_PACK}")
            git(*TRUST, "clone", *options, Path().resolve(), clone, cwd=directory)
            copy_identity(clone, purpose)
            if include_uncommitted:
                config = dvc_config()
                add_workspace(clone)
            else:
                config = {"cache": {"dir": str(clone / ".dvc/cache")}}
                git("read-tree", "HEAD", cwd=clone)
            git("checkout-index", "--quiet", "--all", cwd=clone)
            write_dvc_config(clone, config)
            yield clone


def fetch_missing_files(commit: str) -> None:
    """Fetches the files of a commit that a partial clone (git clone --filter) does not have.

    DVC would wait for them for ever, and a clone could not be made without them.

    Raises:
        UserError: git cannot fetch them.
    """
    settings = git("config", "--list", "--name-only").splitlines()
    for setting in settings:
        if setting.startswith("remote.") and setting.endswith(".promisor"):
            remote = setting.removeprefix("remote.").removesuffix(".promisor")
            objects = git("rev-list", "--objects", "--no-walk", "--missing=print", commit)
            missing = [line[1:] for line in objects.splitlines() if line.startswith("?")]
            if missing:
                options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none")
                git("fetch", *options, remote, *missing)


def check_repository() -> None:
    """Raises UserError unless this directory is the root of a git repository with a commit."""
    try:
        git("rev-parse", "--verify", "HEAD")
        prefix = git("rev-parse", "--show-prefix").strip()
    except UserError as problem:
        if "dubious ownership" in str(problem):
            folder = shlex.quote(str(Path().resolve()))
            raise UserError(
                "git: another user owns this repository; expected one that you trust. "
                f"Run: git config --global --add safe.directory {folder}"
            ) from None
        if "not a git repository" in str(problem) or "Needed a single revision" in str(problem):
            raise UserError(
                "git: no repository with a commit here (a ZIP download?); expected a clone. "
                "Run: git clone URL"
            ) from None
        raise
    if prefix:
        raise UserError(f"git: {prefix} is in a repository; expected the root of a repository")


def has_changes() -> bool:
    """Whether files in git have changes that are not committed."""
    return bool(git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no"))


def copy_identity(clone: Path, purpose: str) -> None:
    """Sets the author of a clone's commits: the user, or the purpose if git does not know one."""
    for key in ("user.name", "user.email"):
        value = git("config", "--default", purpose, "--get", key).strip() or purpose
        git("config", key, value, cwd=clone)


def add_workspace(clone: Path) -> None:
    """Adds the workspace's files to the index of a clone, as `git add` would in the workspace.

    The workspace's own index and HEAD stay as they are. Files that a sparse checkout leaves out
    stay as in HEAD.
    """
    workspace = ("--git-dir", clone / ".git", "--work-tree", ".")
    git(*workspace, "read-tree", "HEAD")
    difference = ("diff-index", "-z", "--name-only", "HEAD")
    if changed := list_files(
        *difference, "--diff-filter=a"
    ):  # all but added files; deleted ones, too
        git(*workspace, "add", "--update", "--", *changed)
    # Other untracked files may be private, and `dvc exp push` would publish them.
    dependencies = dependency_paths(read_stages())
    untracked = list_files("ls-files", "-z", "--others", "--exclude-standard", "--", *dependencies)
    new = list_files(*difference, "--diff-filter=A") | untracked
    if new := {name for name in new if Path(name).is_symlink() or Path(name).exists()}:
        git(*workspace, "add", "--force", "--", *new)


def list_files(*command: str) -> set[str]:
    """The file names that a git command prints, separated by zero bytes."""
    return set(git(*command).split("\0")) - {""}


def dvc_config(folder: Path = Path()) -> dict[str, dict[str, str]]:
    """DVC's configuration of all levels (system, user, project), with absolute paths.

    Returns:
        Section to key to value, with sections as in a file: core, cache, 'remote "storage"'.
        cache.dir is always there.
    """
    sections: dict[str, dict[str, str]] = {}
    for line in dvc("config", "--list", cwd=folder).splitlines():
        name, value = line.split("=", 1)
        section, key = name.rsplit(".", 1)
        kind, _, label = section.partition(".")
        sections.setdefault(f'{kind} "{label}"' if label else kind, {})[key] = value
    sections.setdefault("cache", {}).setdefault("dir", str((folder / ".dvc/cache").resolve()))
    return sections


def write_dvc_config(clone: Path, config: Mapping[str, Mapping[str, str]]) -> None:
    """Writes the local configuration of DVC in a clone.

    Otherwise DVC would leave a site cache directory for the clone in /var/tmp.
    """
    file = ConfigObj(config, encoding="utf-8", interpolation=False)
    file.setdefault("core", {})["site_cache_dir"] = str(clone / DVC_TMP / "site-cache")
    with (clone / ".dvc/config.local").open("wb") as stream:
        file.write(stream)
