"""Damaged objects in DVC's cache, and how to replace them.

DVC does not read a cached object again: it trusts files that are read-only, and brings the same
damaged bytes back whenever a stage or `dvc checkout` needs them.
"""

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from experiments.repository.clones import dvc_config
from experiments.repository.pipeline import PIPELINE, cached_outputs, read_stages
from stages.common.errors import UserError
from stages.common.lockfile import LOCKFILE, locked_outputs, locked_stages
from stages.common.params import INVALID_CONTENT


def damaged_objects(folder: Path = Path()) -> list[str]:
    """A line for each damaged object of the outputs in dvc.lock, with a command that replaces it.

    Args:
        folder: the workspace, or a clone.
    """
    try:
        cached = cached_outputs(read_stages(folder / PIPELINE))
        locked = locked_outputs(locked_stages((folder / LOCKFILE).read_text(encoding="utf-8")))
    except (UserError, OSError, *INVALID_CONTENT):
        return []  # other messages are about these files
    objects = Path(dvc_config(folder)["cache"]["dir"], "files/md5")
    return [
        f"{file}: damaged copy of {path} in DVC's cache. Run: rm -f {shlex.quote(str(file))} && "
        "dvc repro"
        for output in sorted(cached & set(locked))
        for file, path, md5 in objects_of_output(objects, output, locked[output])
        if file.exists() and md5_of(file) != md5.removesuffix(".dir")
    ]


def objects_of_output(objects: Path, output: str, md5: str) -> Iterator[tuple[Path, str, str]]:
    """Yields the object, path and MD5 of each file of an output, and of a directory's list."""
    first = objects / md5[:2] / md5[2:]
    yield first, output, md5
    if md5.endswith(".dir") and first.exists() and md5_of(first) == md5.removesuffix(".dir"):
        for entry in json.loads(first.read_bytes()):
            name = entry["md5"]
            yield objects / name[:2] / name[2:], f"{output}/{entry['relpath']}", name


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
