import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from contextlib import suppress

import pytest

from stages.edges.progress import Progress
from tests.project import ROOT

CODE = """
import time
from stages.edges.progress import Progress
with Progress("MNIST", 4_000_000, "B") as progress:
    for part in range(4):
        for _ in range(20):
            progress.advance(50_000)
            time.sleep(0.01)
        progress.step(f"file {part}")
print("done")
"""


def test_a_log_gets_a_line_a_step_without_control_characters() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, check=True, timeout=280
    )
    assert result.stdout == b"done\n"
    lines = result.stderr.decode().splitlines()
    assert [re.fullmatch(r"(file \d), (\d+) s left", line) for line in lines].count(None) == 0
    assert [line[:6] for line in lines] == ["file 0", "file 1", "file 2", "file 3"]
    assert not set(result.stderr) & ({*range(32), 127} - {ord("\n")})


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # 24 × 100
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux's way to say that the other end is closed
            while piece := os.read(ours, 4096):
                shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=280,
    )
    os.close(theirs)
    reader.join(timeout=10)
    os.close(ours)
    text = b"".join(shown).decode()
    bars = [bar for bar in text.split("\r") if bar.strip()]
    assert len(bars) > 4  # drawn anew
    assert "\n" not in text.rstrip("\r\n")
    for what in (r"^MNIST: ", r"\d%\|", r"/4\.00M", r"MB/s", r"<\d\d:\d\d", "file 2"):
        assert any(re.search(what, bar) for bar in bars), what


def test_the_time_left_follows_from_the_work_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    with Progress("training", 10, " epochs", done=4) as progress:
        monkeypatch.setattr(progress.bar, "_time", lambda: now[0])
        progress.bar.start_t = now[0]
        assert progress.seconds_left() is None
        now[0] += 6
        progress.advance(2)
        # The four of an earlier run took no time of this one.
        assert progress.seconds_left() == pytest.approx(12)
        progress.advance(4)
        assert progress.seconds_left() == 0


def test_work_may_be_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("MNIST", 100, "B") as progress:
        progress.advance(60)
        progress.advance(-60)
        progress.step("again")
    assert capsys.readouterr().err == "again\n"
