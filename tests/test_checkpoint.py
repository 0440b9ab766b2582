"""Checkpoint file: states that fit are restored; others, and damaged files, are ignored."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.training.checkpoint import Checkpoint, State, digest

DEPENDENCIES = {"data": "a", "parameters": "b", "code": "c"}
STATE = State(
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7), np.zeros(0)],
    [{"loss": 0.1, "val_loss": 1 / 3}, {"loss": 1e-9, "val_loss": 0.2}],
    ["a" * 64, "b" * 64],
    [{"wait": 3, "best": math.inf, "best_weights": [np.ones(3), np.float32(0.1)]}, {}],
    True,
)
EPOCHS = 3


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    saved = Checkpoint(tmp_path / "checkpoint.npz", DEPENDENCIES)
    saved.save(STATE)
    return saved


def assert_is_state(state: State | None) -> None:
    assert state is not None
    assert state.history == STATE.history
    assert (state.digests, state.is_stopped) == (STATE.digests, STATE.is_stopped)
    np.testing.assert_equal(state.callbacks, STATE.callbacks)
    assert len(state.variables) == len(STATE.variables)
    for loaded, saved in zip(state.variables, STATE.variables, strict=True):
        np.testing.assert_array_equal(loaded, saved, strict=True)


def test_the_last_saved_state_is_loaded(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_is_state(checkpoint.load(STATE.variables, EPOCHS))
    # In alphabetical order, array_10 would come before array_2.
    later = State([np.array(n) for n in range(25)], STATE.history[:1], [], [], False)
    checkpoint.save(later)
    assert checkpoint.load(later.variables, EPOCHS) == later
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.npz"]
    for _ in range(2):
        checkpoint.remove()
        assert checkpoint.load(STATE.variables, EPOCHS) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"code": "x"}, "code"),
        ({"data": "x", "parameters": "x"}, "data, parameters"),
        ({"environment": "new"}, "environment"),
    ],
)
def test_a_state_with_different_dependencies_is_ignored(
    checkpoint: Checkpoint, changes: dict[str, str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Checkpoint(checkpoint.path, DEPENDENCIES | changes)
    assert changed.load(STATE.variables, EPOCHS) is None
    assert capsys.readouterr().out == (
        f"{checkpoint.path} was saved with different {names}; ignored, training starts at epoch 1\n"
    )


FIRST, SECOND, THIRD = STATE.variables


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"variables": [FIRST, SECOND]}, "has 2 variables; expected 3"),
        ({"variables": [*STATE.variables, np.ones(2)]}, "has 4 variables; expected 3"),
        (
            {"variables": [FIRST.T, SECOND, THIRD]},
            "has a variable 0 of float32 (3, 2); expected float32 (2, 3)",
        ),
        (
            {"variables": [FIRST, SECOND, np.zeros(0, np.float32)]},
            "has a variable 2 of float32 (0,); expected float64 (0,)",
        ),
        ({"variables": [FIRST * np.nan, SECOND, THIRD]}, "has a variable 0 that is not finite"),
        ({"history": []}, "has no history of 1 to 3 epochs"),
        ({"history": STATE.history * 2}, "has no history of 1 to 3 epochs"),
        ({"history": {"a": 1}}, "has no history of 1 to 3 epochs"),
        ({"history": [{}]}, "has the invalid epoch {} in its history"),
        ({"history": [7]}, "has the invalid epoch 7 in its history"),
        ({"history": [{"loss": math.inf}]}, "has the invalid epoch {'loss': inf} in its history"),
        ({"history": [{"loss": "1"}]}, "has the invalid epoch {'loss': '1'} in its history"),
    ],
)
def test_a_state_that_does_not_fit_is_ignored_although_its_dependencies_match(
    checkpoint: Checkpoint,
    changes: dict[str, Any],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint.save(STATE._replace(**changes))
    assert checkpoint.load(STATE.variables, EPOCHS) is None
    assert capsys.readouterr().out == (
        f"{checkpoint.path} {problem}; ignored, training starts at epoch 1\n"
    )


def overwrite(path: Path, place: int, byte: int) -> None:
    # In place: a file that is truncated and written again is flushed to disk each time.
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([byte]))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_damage_of_any_byte_is_reported_or_harmless(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = checkpoint.path.read_bytes()
    ignored = 0
    # 0x01 is ZIP's flag for encryption; 0x08 and 0x0E are the methods deflate and LZMA.
    for bits, place in product((0x01, 0x08, 0x0E, 0xFF), range(len(whole))):
        overwrite(checkpoint.path, place, whole[place] ^ bits)
        state = checkpoint.load(STATE.variables, EPOCHS)
        overwrite(checkpoint.path, place, whole[place])
        output = capsys.readouterr().out
        if state is None:
            ignored += 1
            assert output.startswith(f"{checkpoint.path} is damaged (")
            assert output.endswith("); ignored, training starts at epoch 1\n")
        else:
            assert_is_state(state)
            assert output == ""
    assert ignored > 4 * len(whole) / 3


def test_a_file_of_another_kind_is_damaged(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    for about in ("[]", "{}", '{"dependencies": [], "history": []}', "{", None):
        with checkpoint.path.open("wb") as file:
            if about is None:
                np.save(file, np.zeros(3))
            else:
                np.savez(file, about=np.array(about))
        assert checkpoint.load(STATE.variables, EPOCHS) is None
        assert " is damaged (" in capsys.readouterr().out


def test_a_digest_depends_on_the_contents_of_files_and_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]

    def digest_of(*contents: bytes) -> str:
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return digest(paths)

    # The first and the last pair have the same concatenation.
    digests = [digest_of(*contents) for contents in ((b"12", b"3"), (b"3", b"12"), (b"1", b"23"))]
    assert len(set(digests)) == 3
    assert digest_of(b"12", b"3") == digests[0]
