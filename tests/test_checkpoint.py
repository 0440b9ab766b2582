import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.training.checkpoint import Checkpoint, State, digest
from tests.project import ROOT

DEPENDENCIES = {"data": "a", "parameters": "b", "code": "c"}
STATE = State(
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7), np.zeros(0)],
    [{"loss": 0.1, "val_loss": 1 / 3}, {"loss": 1e-9, "val_loss": 0.2}],
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
    assert len(state.variables) == len(STATE.variables)
    for ours, theirs in zip(state.variables, STATE.variables, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, strict=True)


def test_round_trip(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert_is_state(checkpoint.load(STATE.variables, EPOCHS))
    assert capsys.readouterr().out == ""


def test_more_than_ten_variables_keep_their_order(checkpoint: Checkpoint) -> None:
    many = State([np.array(n) for n in range(25)], STATE.history)
    checkpoint.save(many)
    state = checkpoint.load(many.variables, EPOCHS)
    assert state is not None
    assert [int(array) for array in state.variables] == list(range(25))


def test_the_later_state_replaces_the_earlier(checkpoint: Checkpoint) -> None:
    later = State([], STATE.history[:1])
    checkpoint.save(later)
    assert checkpoint.load([], EPOCHS) == later
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.npz"]


def test_none_is_nothing_to_speak_of(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.remove()
    assert not checkpoint.path.exists()
    assert checkpoint.load(STATE.variables, EPOCHS) is None
    checkpoint.remove()  # again
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"code": "x"}, "code"),
        ({"data": "x", "parameters": "x"}, "data and parameters"),
        ({"environment": "new"}, "environment"),
    ],
)
def test_a_state_of_other_dependencies_is_not_used(
    checkpoint: Checkpoint, others: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Checkpoint(checkpoint.path, DEPENDENCIES | others).load(STATE.variables, EPOCHS) is None
    assert capsys.readouterr().out == (
        f"{checkpoint.path} is of other {said}: training starts afresh\n"
    )


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (State(STATE.variables[:2], STATE.history), "holds 2 variables instead of 3"),
        (State([*STATE.variables, np.ones(2)], STATE.history), "holds 4 variables instead of 3"),
        (
            State([np.zeros((3, 2), np.float32), *STATE.variables[1:]], STATE.history),
            "holds a variable 0 of float32 (3, 2) instead of float32 (2, 3)",
        ),
        (
            State([*STATE.variables[:2], np.zeros(0, np.float32)], STATE.history),
            "holds a variable 2 of float32 (0,) instead of float64 (0,)",
        ),
        (
            State([np.full((2, 3), np.nan, np.float32), *STATE.variables[1:]], STATE.history),
            "holds a variable 0 that is not finite",
        ),
        (State(STATE.variables, []), "has no history of 1 to 3 epochs"),
        (State(STATE.variables, STATE.history * 2), "has no history of 1 to 3 epochs"),
        (State(STATE.variables, {"a": 1}), "has no history of 1 to 3 epochs"),  # type: ignore[arg-type]
        (State(STATE.variables, [{}]), "has an epoch {} in its history"),
        (State(STATE.variables, [7]), "has an epoch 7 in its history"),  # type: ignore[list-item]
        (
            State(STATE.variables, [{"loss": math.inf}]),
            "has an epoch {'loss': inf} in its history",
        ),
        (State(STATE.variables, [{"loss": "1"}]), "has an epoch {'loss': '1'} in its history"),  # type: ignore[dict-item]
    ],
)
def test_a_state_of_another_training_is_not_used(
    checkpoint: Checkpoint, state: State, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though it says that it depends on the same."""
    checkpoint.save(state)
    assert checkpoint.load(STATE.variables, EPOCHS) is None
    assert capsys.readouterr().out == f"{checkpoint.path} {problem}: training starts afresh\n"


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("bits", [0x01, 0x08, 0x0E, 0xFF])
def test_any_damaged_byte(
    checkpoint: Checkpoint, bits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either it does not matter, or training starts afresh and says so."""
    whole = checkpoint.path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= bits
        checkpoint.path.write_bytes(content)
        state = checkpoint.load(STATE.variables, EPOCHS)
        said = capsys.readouterr().out
        if state is None:
            refused += 1
            assert said.startswith(f"{checkpoint.path} is damaged (")
            assert said.endswith("): training starts afresh\n")
        else:
            assert_is_state(state)
            assert said == ""
    assert refused > len(whole) / 3


@pytest.mark.parametrize("about", ["[]", "{}", '{"dependencies": [], "history": []}', "{"])
def test_a_state_that_lacks_a_part(
    checkpoint: Checkpoint, about: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with checkpoint.path.open("wb") as file:
        np.savez(file, about=np.array(about))
    assert checkpoint.load(STATE.variables, EPOCHS) is None
    assert " is damaged (" in capsys.readouterr().out


def test_another_kind_of_file(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    with checkpoint.path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert checkpoint.load(STATE.variables, EPOCHS) is None
    assert " is damaged (" in capsys.readouterr().out


def test_any_truncation(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    whole = checkpoint.path.read_bytes()
    for size in range(0, len(whole), 7):
        checkpoint.path.write_bytes(whole[:size])
        assert checkpoint.load(STATE.variables, EPOCHS) is None
        assert " is damaged (" in capsys.readouterr().out


def test_killed_at_any_time_it_is_whole(tmp_path: Path) -> None:
    """A process saves one state after another, each of equal numbers, until it is killed."""
    code = """
import itertools, pathlib, sys
import numpy as np
from stages.training.checkpoint import Checkpoint, State
checkpoint = Checkpoint(pathlib.Path(sys.argv[1]), {"data": "a"})
state = checkpoint.load([np.zeros(300_000, int)], 10**9)
for n in itertools.count(len(state.history) if state else 1):
    checkpoint.save(State([np.full(300_000, n)], [{"loss": float(n)}] * n))
    print(n, flush=True)
"""
    path = tmp_path / "train.npz"
    last = 0
    for attempt in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the first save of this process is over
            time.sleep(0.003 * attempt)
            process.kill()
            said = process.stdout.read().split()
        assert process.returncode == -signal.SIGKILL
        state = Checkpoint(path, {"data": "a"}).load([np.zeros(300_000, int)], 10**9)
        assert state is not None
        n = len(state.history)
        assert n >= max(last, *map(int, said or ["0"]))
        assert (state.variables[0] == n).all()
        assert {epoch["loss"] for epoch in state.history} == {n}
        last = n


def test_a_digest_is_of_the_contents_in_their_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    before = digest([a, b])
    assert digest([b, a]) != before
    a.write_bytes(b"1")
    b.write_bytes(b"23")
    assert digest([a, b]) != before  # though together they are the same
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    assert digest([a, b]) == before
