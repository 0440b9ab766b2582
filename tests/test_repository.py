"""Temporary clones and experiments, with a pipeline of two stages that take 0.1 s each."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from experiments.repository.clones import (
    check_repository,
    dvc_config,
    temporary_clone,
    write_dvc_config,
)
from experiments.repository.dvc_experiments import (
    export_experiment,
    import_experiment,
    list_experiments,
    run_experiment,
)
from experiments.repository.lockfile_checks import matches_lockfile
from experiments.repository.pipeline import read_stages
from experiments.repository.recovery_steps import recovery_steps
from experiments.repository.subprocesses import CommandError, dvc, environment, git
from experiments.repository.temporary_directory import (
    kill_processes_in,
    processes_in,
    temporary_directory,
)
from stages.common.errors import UserError
from stages.common.lockfile import locked_stages

ROOT = Path(__file__).parent.parent
PIPELINE = """\
stages:
  first:
    cmd: python code/first.py
    deps: [code/first.py, code/lib]
    params: [first]
    outs: [data]
  second:
    cmd: python code/second.py
    deps: [code/second.py, data]
    metrics: [{metrics.json: {cache: false}}]
"""
FIRST = """\
import pathlib
pathlib.Path("data").write_text(pathlib.Path("params.yaml").read_text())
"""
SECOND = """\
import json, pathlib
text = pathlib.Path("data").read_text()
pathlib.Path("metrics.json").write_text(json.dumps({"length": len(text)}))
"""
# Ignores SIGTERM, and has a child in a session of its own that does so, too.
STUBBORN = """\
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = "import time; time.sleep(300)"
subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
pathlib.Path("started").touch()
time.sleep(300)
"""
# A command such as quickstart.
OWNER = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from experiments.repository.clones import temporary_clone
from experiments.repository.dvc_experiments import run_and_import_experiment
from stages.common import command_line

def main():
    with temporary_clone("owner") as clone:
        run_and_import_experiment(clone, "owner", {{"first.seed": 2}})

command_line.run(main)
"""
TIMEOUT_S = 60
run_as_trial = partial(run_experiment, show_output=False, allow_missing=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the pipeline and one commit, which is the current directory."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "größe"
    files = {
        "dvc.yaml": PIPELINE,
        "params.yaml": "first: {seed: 1}\n",
        "code/first.py": FIRST,
        "code/second.py": SECOND,
        "code/lib/used.py": "",
        "code/lib/removed.py": "",
        "README": "Read me.\n",
        "more/file.txt": "More.\n",
        ".gitignore": "/data\n__pycache__/\nsecret*\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".dvc/config": (ROOT / ".dvc/config").read_text(),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=main")
    commit("First")
    return folder


def commit(message: str) -> None:
    git("add", "--all")
    git(
        *("-c", "user.name=A. Tester", "-c", "user.email=a@example.org"),
        *("commit", "--quiet", "--allow-empty", "--message", message),
    )


def edit(folder: Path) -> None:
    """Every kind of edit that a workspace may have."""
    (folder / "params.yaml").write_text("first: {seed: 3}\n")
    (folder / "code/lib/removed.py").unlink()
    (folder / "code/lib/new.py").write_text("new = 1\n")
    (folder / "code/lib/secret.py").write_text("ignored = 1\n")
    (folder / "code/first.py").chmod(0o755)
    (folder / "code/lib/link.py").symlink_to("used.py")
    (folder / "staged.txt").write_text("Staged.\n")
    (folder / ":!odd").write_text("Staged, with a name that git would take for a pattern.\n")
    git("add", "staged.txt", ":!odd")
    (folder / "private.txt").write_text("Private.\n")


def tree(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Kind and content of each file that git does not ignore."""
    found = {}
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=folder)
    for name in listed.split("\0")[:-1]:
        path = folder / name
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.exists():
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            found[name] = ("executable" if executable else "file", path.read_bytes())
    return found


def user_state(folder: Path) -> dict[str, bytes | str]:
    """What belongs to the user in git: index, HEAD, branches and stash."""
    directory = folder / git("rev-parse", "--git-dir").strip()
    return {
        "index": (directory / "index").read_bytes(),
        "HEAD": (directory / "HEAD").read_bytes(),
        "branches": git("for-each-ref", "refs/heads", "refs/stash"),
        "worktrees": git("worktree", "list"),
        "status": git("--no-optional-locks", "status", "--porcelain"),
    }


def shallow(folder: Path) -> Path:
    commit("Second")
    git("clone", "--quiet", "--depth=1", folder.as_uri(), folder.parent / "shallow")
    return folder.parent / "shallow"


def worktree(folder: Path) -> Path:
    git("worktree", "add", "--quiet", "-b", "other", folder.parent / "worktree")
    return folder.parent / "worktree"


KINDS: dict[str, Callable[[Path], Path]] = {
    "normal": lambda folder: folder,
    "shallow": shallow,
    "worktree": worktree,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_has_the_workspace_and_its_experiment_belongs_to_head(
    repository: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    workspace = KINDS[kind](repository)
    monkeypatch.chdir(workspace)
    edit(workspace)
    expected = tree(workspace)
    del expected["private.txt"]  # untracked, and no stage depends on it
    before = user_state(workspace)
    with temporary_clone("test") as clone:
        assert tree(clone) == expected
        assert not (clone / "code/lib/secret.py").exists()
        reference = run_as_trial(clone, "seven", {"first.seed": 7})
        import_experiment(export_experiment(clone, reference))
    assert user_state(workspace) == before
    assert list((workspace / ".dvc/tmp").glob("test-*")) == []

    experiment = list_experiments()["seven"]
    assert git("rev-parse", f"{experiment}^") == git("rev-parse", "HEAD")
    assert "seed: 7" in git("show", f"{experiment}:params.yaml")
    assert git("show", f"{experiment}:code/lib/new.py") == "new = 1\n"
    assert git("show", "--no-patch", "--format=%an %cn", experiment) == "test test\n"
    assert "private.txt" not in git("ls-tree", "-r", "--name-only", experiment)
    assert "seven" in dvc("exp", "list", "--name-only")
    lock = locked_stages(git("show", f"{experiment}:dvc.lock"))
    files = {"metrics.json": git("show", f"{experiment}:metrics.json")}
    assert matches_lockfile(lock, files.__getitem__)
    assert not matches_lockfile(lock, {"metrics.json": "{}"}.__getitem__)


@pytest.mark.parametrize("options", [(), ("--filter=blob:none",)], ids=["sparse", "and partial"])
def test_files_that_a_sparse_checkout_leaves_out_stay_as_in_head(
    repository: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """In a partial clone, git does not even have their content before somebody asks for it."""
    git("config", "uploadpack.allowFilter", "true")
    sparse = repository.parent / "sparse"
    git("clone", "--quiet", "--sparse", *options, repository.as_uri(), sparse)
    git("sparse-checkout", "set", "code", cwd=sparse)
    assert not (sparse / "more").exists()
    monkeypatch.chdir(sparse)
    (sparse / "code/lib/used.py").write_text("used = 1\n")
    with temporary_clone("test") as clone:
        assert (clone / "more/file.txt").read_text() == "More.\n"
        import_experiment(export_experiment(clone, run_as_trial(clone, "seven", {})))
    changes = git("diff", "--name-status", "HEAD", list_experiments()["seven"])
    assert "M\tcode/lib/used.py" in changes
    assert "D\t" not in changes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_repository_of_another_user_works_if_git_is_told_that_it_is_safe(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    monkeypatch.setenv("HOME", str(repository.parent))
    for path in (repository, *repository.rglob("*")):
        shutil.chown(path, 4321)
    with pytest.raises(
        UserError, match=r"\Agit: another user owns this repository; .*\Z"
    ) as problem:
        check_repository()
    follow(str(problem.value))
    for edits in (True, False):
        with temporary_clone("test", edits) as clone:
            assert "stages:" in (clone / "dvc.yaml").read_text()


def test_hooks_and_signatures_of_the_user_are_not_for_clones(repository: Path) -> None:
    """With an author who has an umlaut, and the locale C."""
    hooks = repository.parent / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "post-checkout", "reference-transaction"):
        (hooks / name).write_text("#!/bin/sh\ntouch $(dirname $0)/../ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    config = repository.parent / "gitconfig"
    config.write_text(
        "[user]\nname = Jürgen Größe\nemail = j@example.org\n"
        "[commit]\ngpgSign = true\n[gpg]\nprogram = false\n"
        f"[core]\nhooksPath = {hooks}\n[init]\ntemplateDir = {hooks}\n",
        encoding="utf-8",
    )
    variables = environment(GIT_CONFIG_GLOBAL=str(config), HOME=str(repository.parent), LC_ALL="C")
    subprocess.run([sys.executable, "-c", OWNER], env=variables, check=True)
    experiment = list_experiments()["owner"]
    assert git("show", "--no-patch", "--format=%an %cn", experiment) == (
        "Jürgen Größe Jürgen Größe\n"
    )
    assert not (repository.parent / "ran").exists()


def test_an_experiment_replaces_those_with_its_name_and_shares_the_cache(repository: Path) -> None:
    with temporary_clone("test") as clone:
        import_experiment(export_experiment(clone, run_as_trial(clone, "same", {})))
    commit("Second")
    with temporary_clone("test") as clone:
        reference = run_as_trial(clone, "same", {"first.seed": 1})
        assert (clone / "data").read_text() == (repository / "params.yaml").read_text()
        import_experiment(export_experiment(clone, reference))
    assert git("for-each-ref", "refs/exps/*/*/same").count("\n") == 1
    assert git("rev-parse", f"{list_experiments()['same']}^") == git("rev-parse", "HEAD")
    assert len(list((repository / ".dvc/cache/runs").rglob("*"))) > 0


def test_a_clone_without_edits_is_head_with_an_empty_cache(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the user has configured another cache."""
    (repository / ".dvc/tmp").mkdir()
    (repository / ".dvc/tmp/config").write_text("[cache]\n    dir = /nowhere\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(repository / ".dvc/tmp"))
    assert dvc("cache", "dir").strip() == "/nowhere"
    expected = tree(repository)
    edit(repository)
    with temporary_clone("test", include_uncommitted=False) as clone:
        assert tree(clone) == expected
        assert git("status", "--porcelain", cwd=clone) == ""
        assert dvc("cache", "dir", cwd=clone).strip() == str(clone / ".dvc/cache")


def test_the_configuration_of_dvc_keeps_its_values(repository: Path) -> None:
    dvc("remote", "add", "--default", "--local", "storage", "../elsewhere, #1")
    config = dvc_config()
    url = str(repository.parent / "elsewhere, #1")
    assert config['remote "storage"'] == {"url": url}
    with temporary_clone("test") as clone:
        again = dvc("config", "--list", cwd=clone)
    assert f"remote.storage.url={url}\n" in again
    assert f"cache.dir={repository / '.dvc/cache'}\n" in again
    (repository / "copy/.dvc").mkdir(parents=True)
    write_dvc_config(repository / "copy", config)
    assert "größe" in (repository / "copy/.dvc/config.local").read_text(encoding="utf-8")


def test_from_a_commit_hook_the_index_of_the_commit_is_left_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = worktree(repository)
    monkeypatch.chdir(workspace)
    (workspace / "README").write_text("Staged.\n")
    git("add", "README")
    (workspace / "code/lib/new.py").write_text("new = 1\n")
    (workspace / "code/lib/used.py").write_text("used = 1\n")
    hook = repository / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec {sys.executable} - <<'END'\n{OWNER}END\n")
    hook.chmod(0o755)
    # With -m: the hook gets the worktree's index, GIT_DIR and GIT_INDEX_FILE.
    git(
        *("-c", "user.name=A. Tester", "-c", "user.email=a@example.org"),
        *("-c", f"core.hooksPath={hook.parent}"),
        *("commit", "--quiet", "--message", "From a hook"),
    )
    assert git("show", "--format=", "--name-only", "HEAD") == "README\n"
    assert git("status", "--porcelain") == " M code/lib/used.py\n?? code/lib/new.py\n"
    experiment = list_experiments()["owner"]
    assert git("rev-parse", f"{experiment}^") == git("rev-parse", "HEAD^")
    assert git("show", f"{experiment}:code/lib/used.py") == "used = 1\n"


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
def test_a_signal_leaves_no_process_and_no_directory(repository: Path, number: str) -> None:
    (repository / "code/first.py").write_text(STUBBORN)
    before = user_state(repository)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=default_signals,
    )
    temporary = repository / ".dvc/tmp"
    wait_until(lambda: list(temporary.glob("owner-*/clone/started")))
    (directory,) = temporary.glob("owner-*")
    assert len(processes_in(directory.resolve())) >= 3
    owner.send_signal(signal.Signals[number])
    assert owner.wait(TIMEOUT_S) == -signal.Signals[number]
    if number != "SIGKILL":
        assert not directory.exists()
    wait_until(lambda: not directory.exists(), seconds=10)
    assert processes_in(directory.resolve()) == []
    assert user_state(repository) == before


def follow(step: str) -> None:
    """Runs the command of a recovery step."""
    subprocess.run(step.split("Run: ")[1], shell=True, check=True)  # noqa: S602


def default_signals() -> None:
    """As in a terminal: a shell's background jobs ignore some of them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(is_done: Callable[[], object], seconds: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_killed_process_left_is_removed(repository: Path) -> None:
    left = repository / ".dvc/tmp/test-left/clone"
    left.mkdir(parents=True)
    process = subprocess.Popen(["sleep", "300"], cwd=left)
    with temporary_clone("test"):
        assert not left.exists()
    assert process.wait(TIMEOUT_S) == -signal.SIGTERM


@pytest.mark.usefixtures("repository")
def test_a_second_process_with_the_same_purpose_waits() -> None:
    with temporary_clone("owner") as clone:
        second = subprocess.Popen(
            [sys.executable, "-c", OWNER], env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None
        assert second.stdout.readline() == (
            "Another owner is running in this directory; this one waits\n"
        )
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1)
        assert (clone / "dvc.yaml").exists()
    second.communicate(timeout=TIMEOUT_S)
    assert second.returncode == 0
    assert "owner" in list_experiments()


def test_processes_elsewhere_are_left_alone(tmp_path: Path) -> None:
    inside, beside = tmp_path / "in", tmp_path / "in-side"
    inside.mkdir()
    beside.mkdir()
    processes = [subprocess.Popen(["sleep", "300"], cwd=folder) for folder in (inside, beside)]
    kill_processes_in(inside)
    assert processes[0].wait(TIMEOUT_S) == -signal.SIGTERM
    assert processes[1].poll() is None
    processes[1].kill()
    processes[1].wait()


def test_an_error_in_the_block_removes_the_directory_too(tmp_path: Path) -> None:
    def fail() -> None:
        with temporary_directory(tmp_path / "parent", "prefix-") as directory:
            assert directory.name.startswith("prefix-")
            (directory / "file").touch()
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert list((tmp_path / "parent").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["stages: {}", "[]", "stages: {a: 3}", "stages: {a: {deps: 3}}", "stages: {a: {outs: [3]}}"],
)
def test_a_pipeline_of_another_form_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=r"\Advc.yaml: .*; git diff dvc.yaml shows what changed\Z"):
        read_stages()


def test_a_subdirectory_of_a_repository_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "code")
    with pytest.raises(UserError, match="expected the root of a repository"):
        check_repository()


def test_a_failed_command_has_the_end_of_its_output(repository: Path) -> None:
    (repository / "code/first.py").write_text("raise SystemExit('no data: näh')\n")
    with pytest.raises(CommandError) as problem, temporary_clone("test") as clone:
        run_as_trial(clone, "test", {})
    lines = str(problem.value).split("\n")
    assert "no data: näh" in lines
    assert lines[-1].startswith("ERROR: failed to reproduce 'first'")
    assert len(lines) <= 10
    with pytest.raises(UserError, match=r"\Agit config: exit status 1\Z"):
        git("config", "--get", "no.such")
    with pytest.raises(UserError, match=r"\Agit rev-parse: fatal: "):
        git("rev-parse", "nowhere")


def test_without_a_repository_the_cause_is_named(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(repository / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    for _ in range(2):
        with pytest.raises(UserError, match=r"\Agit: no repository with a commit here"):
            temporary_clone("test").__enter__()
        git("init", "--quiet")


def test_child_processes_do_not_get_the_variables_of_a_hook_or_of_python(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_git = git("rev-parse", "--local-env-vars").split()
    assert {"GIT_DIR", "GIT_INDEX_FILE", "GIT_CONFIG_PARAMETERS"} < set(of_git)
    # Stages are `python -m stages.X`, which needs the current directory on Python's path.
    names = {*of_git, "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONHOME"}
    for name in names:
        monkeypatch.setenv(name, "/nowhere")
    assert git("rev-parse", "--show-toplevel").strip() == str(repository)
    assert not names & set(environment())


def test_traces_of_kills_are_named_with_a_command_that_removes_them(repository: Path) -> None:
    assert recovery_steps() == []
    truncated = "schema: '2.0'\nstages:\n  first:\n    cmd: 'pyth"
    dvc("repro")
    for lockfile in ("", truncated):
        (repository / ".git/index.lock").touch()
        (repository / ".git/refs/heads/main.lock").touch()
        (repository / ".dvc/tmp/rwlock").write_text('{"a')
        (repository / "dvc.lock").write_text(lockfile)
        steps = recovery_steps()
        assert len(steps) == 4
        for step in steps:
            follow(step)
        assert recovery_steps() == []
        dvc("repro")  # from the run cache, if dvc.lock is not committed
        commit("With dvc.lock")
    assert git("status", "--porcelain") == ""


@pytest.mark.parametrize("stages", [2_000, 40_000])
def test_a_large_lockfile_is_not_called_damaged(repository: Path, stages: int) -> None:
    text = "".join(f"  stage{number}:\n    cmd: python stage.py\n" for number in range(stages))
    (repository / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{text}")
    assert (repository / "dvc.lock").stat().st_size > 50_000
    assert recovery_steps() == []


def test_a_lock_that_git_has_is_left_alone(repository: Path) -> None:
    """As while an editor is open for the message of a commit."""
    (repository / "README").write_text("Edited.\n")
    committing = subprocess.Popen(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--all"],
        env=environment(GIT_EDITOR="touch opened; sleep 300; true"),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until((repository / "opened").exists)
    assert (repository / ".git/index.lock").exists()
    assert recovery_steps() == []
    os.killpg(committing.pid, signal.SIGKILL)
    committing.wait(TIMEOUT_S)
    (step,) = recovery_steps()
    follow(step)
    assert recovery_steps() == []
    git("add", "README")


def test_a_stash_or_a_detached_head_of_the_user_is_left_alone(repository: Path) -> None:
    (repository / "README").write_text("Edited.\n")
    git("-c", "user.name=A", "-c", "user.email=a@example.org", "stash")
    git("checkout", "--quiet", "--detach")
    assert recovery_steps() == []
    # Also if a killed process of DVC has left its name, but nothing in the stash.
    lock = repository / ".dvc/tmp/exps/rwlock"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"write": {"workspace": {"pid": 4194305, "cmd": "dvc exp run"}}}')
    os.utime(lock, (time.time() + 60, time.time() + 60))
    git("checkout", "--quiet", "main")
    assert recovery_steps() == []
