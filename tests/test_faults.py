"""Faults in the code that the tests must catch.

`pytest -m long tests/test_faults.py` writes each fault into a copy of the project and runs the tests
that must fail. A change of the code that removes the text of a fault must update it here.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, activated, copy_files

# For each test that must fail: a file, a text that occurs in it once, and its wrong replacement.
FAULTS = {
    "tests/test_common.py": [
        ("stages/common/atomic_write.py", "    remove(partial)\n    try:", "    try:"),
        (
            "stages/common/atomic_write.py",
            "        partial.replace(path)",
            "        shutil.copyfile(partial, path) if partial.is_file() else partial.replace(path)",
        ),
        (
            "stages/common/command_line.py",
            "        main()\n        raise_if_signalled()",
            "        main()",
        ),
        (
            "stages/common/errors.py",
            "each if each.isprintable() else repr(each)[1:-1] for each in text",
            "each for each in text",
        ),
        (
            "stages/common/errors.py",
            "problem.strerror or f'{problem} (is the disk full?)'",
            "problem.strerror or problem",
        ),
        (
            "stages/common/command_line.py",
            "if signal.getsignal(number) is not signal.SIG_IGN:",
            "if True:",
        ),
    ],
    "tests/test_params.py": [
        ("stages/common/params.py", "ConfigDict(strict=True, ", "ConfigDict("),
    ],
    "tests/test_data.py": [
        (
            "stages/data/arrays.py",
            "if checksums(path.parent / SUMS).get(path.name) != sha256(path):",
            "if path.name not in checksums(path.parent / SUMS):",
        ),
        ("stages/data/splits.py", "np.argsort(-remainders", "np.argsort(remainders"),
        ("stages/data/scaling.py", "size - mean**2", "size"),
        ("stages/data/arrays.py", " and isinstance(array.base, mmap.mmap)", ""),
        ("stages/download.py", "arrays[name] - np.uint8(first_label)", "arrays[name]"),
        ("stages/data/dataset_checks.py", "bool(entry.files) == bool(entry.load)", "False"),
    ],
    "tests/test_memory.py": [
        (
            "stages/data/arrays.py",
            'return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape, order)',
            "return array",
        ),
        (
            "stages/normalize.py",
            "(scaling(part) for part in parts(images, selected))",
            "[scaling(images[selected])]",
        ),
    ],
    "tests/test_augmentation.py": [
        ("stages/training/augmentation.py", "row_pixels = width + 3", "row_pixels = height + 3"),
        (
            "stages/training/augmentation.py",
            "self.column_basis = gaussian_basis(smoothness, self.width)",
            "self.column_basis = gaussian_basis(smoothness, self.height)",
        ),
    ],
    "tests/test_mirrors.py": [
        ("stages/data/mirrors.py", 'text.replace(secret[1], "…")', "text"),
        ("stages/data/mirrors.py", "problem.status >= 500", "False"),
        ("stages/data/mirrors.py", "        progress.advance(-stream.size)\n", ""),
    ],
    "tests/test_evaluation.py": [
        ("stages/evaluation/scores.py", 'kind="stable"', 'kind="quicksort"'),
    ],
    "tests/test_checkpoint.py": [
        ("stages/training/checkpoint.py", "            if changed:\n", "            if False:\n"),
    ],
    "tests/test_bits.py::test_there_are_never_fewer_than_two_threads": [
        (
            "stages/training/threads.py",
            "MIN_THREADS, MAX_THREADS = 2,",
            "MIN_THREADS, MAX_THREADS = 1,",
        ),
    ],
    "tests/test_compiled_epoch.py": [
        ("stages/training/image_order.py", "default_rng([seed, epoch])", "default_rng([seed])"),
        (
            "stages/training/compiled_epoch.py",
            "train_batch((images, *others))",
            "train_batch((images, others[0]))",
        ),
        ("stages/training/labels.py", "    if takes_integers(loss):", "    if True:"),
    ],
    "tests/test_callbacks.py": [
        (
            "stages/training/definition_checks.py",
            "            if is_called_for_batches(callback, method):",
            "            if False:",
        ),
        (
            "stages/training/callbacks.py",
            "            if self.digests[epoch - 1] == digest:",
            "            if True:",
        ),
    ],
    "tests/test_network.py": [
        (
            "stages/training/model_file.py",
            "        network = load_model(path) if unchanged else None",
            "        network = load_model(path)",
        ),
        (
            "stages/training/model_file.py",
            '            file.attrs.update({"pixel_offset": scaling.offset, "pixel_divisor": scaling.divisor})',
            '            file.attrs.update({"pixel_offset": 0.0, "pixel_divisor": 255.0})',
        ),
    ],
    "tests/test_bits.py": [
        ("stages/training/tensorflow_setup.py", "    del os.environ[variable]", "    pass"),
    ],
    "tests/test_kills.py::test_a_checkpoint_depends_on_all_inputs_of_a_training": [
        ("stages/train.py", "{model!r} {train!r} {augmentation!r}", "{model!r} {train!r}"),
        (
            "stages/training/checkpoint.py",
            '{"data": digest([data / SUMS]), ',
            '{"data": "", ',
        ),
    ],
    "tests/test_kills.py": [
        ("stages/train.py", "    checkpoint.remove()\n", ""),
        ("stages/training/callback_state.py", "    vars(callback).update(state)\n", ""),
        ("stages/training/callbacks.py", "epochs if self.saved.is_stopped else len", "len"),
        (
            "stages/training/callbacks.py",
            "self.history, self.digests = self.saved.history,",
            "self.history, self.digests = [],",
        ),
        ("stages/training/callbacks.py", "if not math.isfinite(logs[name]):", "if False:"),
    ],
    "tests/test_declarations.py": [
        ("dvc.yaml", "          - stages.train.params\n", ""),
        (
            "dvc.yaml",
            "    params: [model, train, augmentation]\n    outs:\n      - models",
            "    params: [model, train]\n    outs:\n      - models",
        ),
        (
            "dvc.yaml",
            "      - stages/evaluation\n      - stages/training\n    params: [evaluate]",
            "      - stages/training\n    params: [evaluate]",
        ),
    ],
    "tests/test_study.py": [
        ("experiments/study/runner.py", "ATTEMPTS = 3", "ATTEMPTS = 1"),
        ("experiments/study/report.py", "    if errors.empty:", "    if False:"),
        (
            "experiments/study/significance.py",
            "np.maximum.accumulate(p[order] * factors)",
            "p[order] * factors",
        ),
    ],
    "tests/test_repository.py::test_a_clone_has_the_workspace_and_its_experiment_belongs_to_head": [
        (
            "experiments/repository/clones.py",
            'new = list_files(*difference, "--diff-filter=A") | untracked',
            'new = list_files(*difference, "--diff-filter=A")',
        ),
        (
            "experiments/repository/clones.py",
            'new = list_files(*difference, "--diff-filter=A") | untracked',
            "new = untracked",
        ),
        (
            "experiments/repository/clones.py",
            '"--others", "--exclude-standard", "--", *dependencies',
            '"--others", "--", *dependencies',
        ),
        (
            "experiments/repository/clones.py",
            '        git(*workspace, "add", "--update", "--", *changed)',
            "        pass",
        ),
        (
            "experiments/repository/clones.py",
            '("--git-dir", clone / ".git", "--work-tree", ".")',
            '("--work-tree", ".")',
        ),
    ],
    "tests/test_repository.py::test_files_that_a_sparse_checkout_leaves_out_stay_as_in_head": [
        (
            "experiments/repository/clones.py",
            'git(*workspace, "add", "--update", "--", *changed)',
            'git(*workspace, "add", "--update")',
        ),
        ("experiments/repository/clones.py", '            fetch_missing_files("HEAD")\n', ""),
    ],
    "tests/test_repository.py::test_a_lock_that_git_has_is_left_alone": [
        (
            "experiments/repository/recovery_steps.py",
            'if not is_running("git", "dvc"):',
            "if True:",
        ),
    ],
    "tests/test_repository.py::test_a_stash_or_a_detached_head_of_the_user_is_left_alone": [
        (
            "experiments/repository/killed_experiment.py",
            "if time and int(time) >= int(EXPERIMENTS_LOCK.stat().st_mtime):",
            "if time:",
        ),
    ],
    "tests/test_kills.py::test_edits_since_a_kill_and_commits_on_no_branch_are_kept": [
        (
            "experiments/repository/killed_experiment.py",
            "if has_commits and not subject.startswith(DVC_COMMIT):",
            "if False:",
        ),
        (
            "experiments/repository/killed_experiment.py",
            "if stash := stash_of_dvc(parts):",
            "if stash := None:",
        ),
    ],
    "tests/test_advice.py::test_a_damaged_object_in_the_cache_is_named_and_replaced": [
        (
            "experiments/repository/cache_check.py",
            "for entry in json.loads(first.read_bytes()):",
            "for entry in []:",
        ),
    ],
    "tests/test_repository.py::test_from_a_commit_hook_the_index_of_the_commit_is_left_alone": [
        (
            "experiments/repository/subprocesses.py",
            "removed = REMOVED_VARIABLES | variables_of_a_repository()",
            "removed = REMOVED_VARIABLES",
        ),
    ],
    "tests/test_repository.py::test_a_second_process_with_the_same_purpose_waits": [
        ("experiments/repository/lock.py", "        lock.acquire()\n", ""),
    ],
    "tests/test_repository.py::test_a_signal_leaves_no_process_and_no_directory": [
        (
            "experiments/repository/temporary_directory.py",
            "        shutil.rmtree(directory, ignore_errors=True)\n        if not",
            "        if not",
        ),
        (
            "experiments/repository/temporary_directory.py",
            "    kill_processes_in(directory)\n    # Repeated",
            "    # Repeated",
        ),
    ],
    "tests/test_repository.py::test_an_experiment_replaces_those_with_its_name_and_shares_the_cache": [
        (
            "experiments/repository/dvc_experiments.py",
            '        for earlier in set(same_name) - imported:\n            git("update-ref", "-d", earlier)\n',
            "",
        ),
    ],
    "tests/test_repository.py::test_what_a_killed_process_left_is_removed": [
        (
            "experiments/repository/clones.py",
            "            kill_processes_in(leftover)\n            shutil.rmtree(leftover, ignore_errors=True)",
            "            pass",
        ),
    ],
    "tests/test_repository.py::test_traces_of_kills_are_named_with_a_command_that_removes_them": [
        (
            "experiments/repository/recovery_steps.py",
            "    except ValueError:\n        return True\n    return False",
            "    except ValueError:\n        return False\n    return False",
        ),
    ],
    "tests/test_compare.py": [
        (
            "experiments/compare/mcnemar.py",
            "int((a_wrong & ~b_wrong).sum()),\n        int((b_wrong & ~a_wrong).sum()),",
            "int((b_wrong & ~a_wrong).sum()),\n        int((a_wrong & ~b_wrong).sum()),",
        ),
        ("experiments/compare/revisions.py", "if not matches_lockfile(stages, read):", "if False:"),
        ("experiments/compare/revisions.py", '"--rev", commit, "--out"', '"--out"'),
        (
            "stages/common/lockfile.py",
            "found.setdefault(key, value)  #",
            "found[key] = value  #",
        ),
    ],
    "tests/test_commands.py::test_verify_confirms_the_committed_results_and_finds_a_forged_metric": [
        (
            "experiments/verify.py",
            '"identical" if repeated.get(path) == md5 else',
            '"identical" if True else',
        ),
    ],
    "tests/test_app.py": [
        (
            "app/server.py",
            '        if not (name == "localhost" or name in allowed_names or is_address(name)):',
            "        if False:",
        ),
        ("app/server.py", "    TcpWSGIServer.channel_class = BoundedChannel\n", ""),
        ("app/server.py", "inbuf_overflow=2 * MAX_UPLOAD_BYTES,", "inbuf_overflow=524288,"),
        ("app/server.py", "self.in_flight[self] = size", "self.in_flight[self] = 0"),
        ("app/server.py", "and origin_name not in allowed_names", ""),
        ("app/page/page.js", "if (event.button || stroke) return;", "if (event.button) return;"),
        (
            "app/server.py",
            "        if not is_large(file):\n            yield\n            return\n",
            "",
        ),
    ],
    "tests/test_predict.py": [
        (
            "app/predict.py",
            "        check_replaceable(arguments.show, [arguments.model, *arguments.files])",
            "        pass",
        ),
    ],
    "tests/test_reading.py": [
        ("app/grayscale.py", "    ImageOps.exif_transpose(small, in_place=True)\n", ""),
        (
            "app/foreground.py",
            "contrast = remove_ruled_lines(contrast_to",
            "contrast = (contrast_to",
        ),
        (
            "app/segmentation.py",
            "    if box_area > MAX_BOX_AREA",
            "    if box_area > 99 * MAX_BOX_AREA",
        ),
        (
            "app/segmentation.py",
            "sorted(find_digits(grey), key=Digit.center)",
            "find_digits(grey)",
        ),
    ],
    "tests/test_predict.py::test_an_uncertain_digit_is_shown_with_two_candidates": [
        (
            "app/recognition.py",
            "np.asarray(sure & (np.mean(sure) > 0.5))",
            "np.asarray(sure)",
        ),
    ],
    "tests/test_commands.py::test_a_lock_of_other_code_or_parameters_is_found_without_a_run": [
        (
            "experiments/repository/lockfile_checks.py",
            "if state not in MISSING or path not in cached:",
            "if state not in MISSING:",
        ),
    ],
    "tests/test_commands.py": [
        (
            "experiments/quickstart.py",
            "    params = read_params()\n    print_recovery_steps()\n",
            "    print_recovery_steps()\n    params = read_params()\n",
        ),
        ("Makefile", '"$${A:-HEAD}" "$${B:-workspace}"', "$${A:-HEAD} $${B:-workspace}"),
    ],
    "tests/test_installing.py": [
        ("Makefile", "--require-hashes --no-build-isolation", "--require-hashes"),
    ],
    "tests/test_team.py::test_a_clone_as_git_for_windows_makes_it_has_nothing_modified": [
        (".gitattributes", "* text=auto eol=lf\n", ""),
    ],
    "tests/test_team.py::test_queued_experiments_are_compared_applied_or_made_branches": [
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
