"""Faults of one line that the tests must catch.

`pytest -m long tests/test_faults.py` writes each of them into a copy of the project and runs the
tests named there, which must fail. Whoever moves or renames code carries its faults along.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, activated, copy_files

# By the tests that must fail: a file, a text that stands there once, and what is wrong instead.
FAULTS = {
    "tests/test_edges.py": [
        ("stages/edges/replacing.py", "    remove(partial)\n    try:", "    try:"),
        (
            "stages/edges/replacing.py",
            "        partial.replace(path)",
            "        shutil.copyfile(partial, path) if partial.is_file() else partial.replace(path)",
        ),
        ("stages/edges/bad_input.py", "        yield\n        end_if_told()", "        yield"),
        (
            "stages/edges/bad_input.py",
            "each if each.isprintable() else repr(each)[1:-1] for each in text",
            "each for each in text",
        ),
        ("stages/edges/bad_input.py", "if signal.getsignal(number) is not signal.SIG_IGN", ""),
    ],
    "tests/test_data.py": [
        (
            "stages/data/arrays.py",
            "if checksums(path.parent / SUMS).get(path.name) != sha256(path):",
            "if path.name not in checksums(path.parent / SUMS):",
        ),
        ("stages/data/splitting.py", "np.argsort(-remainders", "np.argsort(remainders"),
        ("stages/data/scaling.py", "size - mean**2", "size"),
    ],
    "tests/test_mirrors.py": [
        ("stages/data/mirrors.py", 'text.replace(secret[1], "…")', "text"),
        ("stages/data/mirrors.py", "problem.status >= 500", "False"),
        ("stages/data/mirrors.py", "        progress.advance(-len(sink.content))\n", ""),
    ],
    "tests/test_evaluation.py": [
        ("stages/results/scores.py", 'kind="stable"', 'kind="quicksort"'),
    ],
    "tests/test_checkpoint.py": [
        ("stages/training/checkpoint.py", "        if others:\n", "        if False:\n"),
    ],
    "tests/test_bits.py::test_there_are_never_fewer_than_two_threads": [
        ("stages/training/threads.py", "FEWEST, MOST = 2,", "FEWEST, MOST = 1,"),
    ],
    "tests/test_compiled_epoch.py": [
        ("stages/training/compiled_epoch.py", "default_rng([seed, epoch])", "default_rng([seed])"),
        (
            "stages/training/compiled_epoch.py",
            "self.network(x, training=True)",
            "self.network(x, training=False)",
        ),
    ],
    "tests/test_network.py": [
        (
            "stages/training/network.py",
            "        network = load(path) if unchanged else None",
            "        network = load(path)",
        ),
        (
            "stages/training/network.py",
            '            file.attrs.update({"pixel_offset": scaling.offset, "pixel_divisor": scaling.divisor})',
            '            file.attrs.update({"pixel_offset": 0.0, "pixel_divisor": 255.0})',
        ),
    ],
    "tests/test_bits.py": [
        ("stages/training/repeatable.py", "    del os.environ[variable]", "    pass"),
    ],
    "tests/test_kills.py::test_a_checkpoint_depends_on_all_that_a_training_reads": [
        ("stages/train.py", "{model!r} {train!r} {warp!r}", "{model!r} {train!r}"),
        ("stages/train.py", '"data": digest([NORMALIZED / SUMS]),', '"data": "",'),
    ],
    "tests/test_kills.py": [
        ("stages/train.py", "    checkpoint.remove()\n", ""),
        ("stages/training/callbacks.py", "self.history = state.history", "self.history = []"),
        ("stages/training/callbacks.py", "if not math.isfinite(logs[name]):", "if False:"),
    ],
    "tests/test_declarations.py": [
        (
            "dvc.yaml",
            "    params: [model, train, warp]\n    outs:\n      - models",
            "    params: [model, train]\n    outs:\n      - models",
        ),
        (
            "dvc.yaml",
            "      - stages/results\n      - stages/training\n    params: [evaluate]",
            "      - stages/training\n    params: [evaluate]",
        ),
    ],
    "tests/test_study.py": [
        (
            "experiments/recipes.py",
            "            if tells_of(lock, partial(read, commit)):\n                found",
            "            if True:\n                found",
        ),
        (
            "experiments/recipes.py",
            '    return git("-C", str(folder), "ls-files", *options, "--", *sorted(code)).split("\\0")[:-1]',
            "    return []",
        ),
        (
            "experiments/workspace.py",
            '"--no-ext-diff", "--no-textconv", "HEAD"',
            '"--no-ext-diff", "--no-textconv", "--cached", "HEAD"',
        ),
        (
            "experiments/workspace.py",
            "fcntl.flock(lock, fcntl.LOCK_EX)\n        shutil",
            "pass\n        shutil",
        ),
        ("experiments/scratch.py", "shutil.rmtree(sys.argv[1], ignore_errors=True)", "pass"),
        ("experiments/trainings.py", "ATTEMPTS = 3", "ATTEMPTS = 1"),
        (
            "experiments/evidence.py",
            "np.maximum.accumulate(p[order] * factors)",
            "p[order] * factors",
        ),
    ],
    "tests/test_compare.py": [
        (
            "experiments/compare.py",
            "int((a_wrong & ~b_wrong).sum()),\n        int((b_wrong & ~a_wrong).sum()),",
            "int((b_wrong & ~a_wrong).sum()),\n        int((a_wrong & ~b_wrong).sum()),",
        ),
        ("experiments/compare.py", "    if md5(RAW) != dataset:", "    if False:"),
    ],
    "tests/test_commands.py::test_verify_finds_a_forged_metric": [
        ("tools/verify.py", '"identical" if other == md5 else', '"identical" if True else'),
    ],
    "tests/test_kills.py::test_quickstart_killed_in_a_shallow_clone_beside_edits": [
        (
            "tools/elsewhere.py",
            "for name in map(Path, [*tracked, *new_code(Path())]):",
            "for name in map(Path, tracked):",
        ),
        (
            "tools/elsewhere.py",
            '    for experiment in set(earlier) - {made}:\n        git("update-ref", "-d", experiment)\n',
            "",
        ),
        (
            "tools/elsewhere.py",
            '        for killed in TEMPORARY.glob(f"{purpose}-*"):\n            shutil.rmtree(killed, ignore_errors=True)\n',
            "",
        ),
    ],
    "tests/test_kills.py::test_a_file_of_dvc_that_a_kill_cut_short_is_named": [
        (
            "tools/leftovers.py",
            "    except ValueError:\n        return True\n    return False",
            "    except ValueError:\n        return False\n    return False",
        ),
    ],
    "tests/test_app.py": [
        (
            "app/server.py",
            '        if not (name in ("localhost", host.lower()) or is_address(name)):',
            "        if False:",
        ),
        ("app/server.py", "    TcpWSGIServer.channel_class = Connection\n", ""),
        ("app/server.py", "inbuf_overflow=2\n            * MAX_BYTES,", "inbuf_overflow=524288,"),
        ("app/server.py", "with large if is_large(picture) else nullcontext():", "with large:"),
    ],
    "tests/test_predict.py": [
        (
            "app/predict.py",
            "        check_replaceable(arguments.show, [arguments.model, *arguments.files])",
            "        pass",
        ),
    ],
    "tests/test_reading.py": [
        ("app/grey.py", "    ImageOps.exif_transpose(small, in_place=True)\n", ""),
        (
            "app/digits.py",
            "    return sorted(inside or result, key=lambda digit: digit.box[0] + digit.box[2])",
            "    return inside or result",
        ),
    ],
    "tests/test_predict.py::test_two_candidates_where_it_is_not_sure": [
        ("app/answers.py", "rounded[best] >= SURE", "rounded[best] >= 0.5"),
    ],
    "tests/test_commands.py": [
        (
            "tools/quickstart.py",
            "    read_parameters()\n    name_leftovers()",
            "    name_leftovers()",
        ),
        ("Makefile", '"$${A:-HEAD}" "$${B:-workspace}"', "$${A:-HEAD} $${B:-workspace}"),
    ],
    "tests/test_installing.py": [
        ("Makefile", "--require-hashes --no-build-isolation", "--require-hashes"),
    ],
    "tests/test_team.py::test_a_clone_as_git_for_windows_makes_it_has_nothing_modified": [
        (".gitattributes", "* text=auto eol=lf\n", ""),
    ],
    "tests/test_team.py::test_queued_experiments_are_compared_taken_over_or_made_branches": [
        (".dvc/config", "offline = true", "offline = false"),
    ],
}
CASES = [(tests, *fault) for tests, faults in FAULTS.items() for fault in faults]


@pytest.mark.parametrize(("tests", "path", "text", "wrong"), CASES)
def test_a_fault_has_its_one_place(tests: str, path: str, text: str, wrong: str) -> None:
    assert (ROOT / path).read_text().count(text) == 1
    assert text != wrong
    assert (ROOT / tests.partition("::")[0]).exists()


@pytest.mark.long
@pytest.mark.parametrize(("tests", "path", "text", "wrong"), CASES)
def test_a_fault_is_caught(tests: str, path: str, text: str, wrong: str, tmp_path: Path) -> None:
    project = copy_files(tmp_path / "project")
    file = project.folder / path
    file.write_text(file.read_text().replace(text, wrong))
    project.git("init", "--quiet")
    project.commit("A fault")
    outside = {name: value for name, value in activated().items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "--numprocesses=0", tests],
        cwd=project.folder,
        env=outside,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-3_000:]
