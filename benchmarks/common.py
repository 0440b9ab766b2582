"""Markdown tables, standard errors, child processes of Python, and the cost of a command."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.common.errors import UserError

ROOT = Path(__file__).parents[1]


class Cost(NamedTuple):
    """Wall-clock seconds of a command, and peak memory of its largest process in MB."""

    seconds: float
    megabytes: float


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table, each row as soon as it is measured."""
    print_row(header)
    print_row(["---", *["---:"] * (len(header) - 1)])
    for row in rows:
        print_row(row)


def print_row(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def mean_and_error(values: Sequence[float], decimals: int) -> str:
    """The mean and its standard error, such as 2.05 ± 0.08; of one value, only the value."""
    mean = f"{np.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {standard_error(values):.{decimals}f}"


def standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def run_python(*arguments: str) -> str:
    """Runs Python as a child process and returns what it prints.

    Raises:
        UserError: it failed. Its messages are on standard error already.
    """
    result = subprocess.run(
        [sys.executable, *arguments], check=False, stdout=subprocess.PIPE, text=True
    )
    if result.returncode:
        raise UserError(f"python {' '.join(arguments)}: exit status {result.returncode}")
    return result.stdout


def measure(*command: str, cwd: Path) -> Cost:
    """Runs a command and measures its cost.

    Raises:
        UserError: the command failed. Its messages are on standard error already.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    usage: Any
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(command)}: exit status {process.returncode}")
    return Cost(time.perf_counter() - start, usage.ru_maxrss / 1024)
