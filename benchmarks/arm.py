"""Whether the pipeline gives the same files on ARM as on this x86-64 processor, without having one.

    python -m benchmarks.arm --folder /var/tmp/arm

It fetches Debian's Python for arm64 by apt and the wheels of requirements.txt for it by pip,
2 GB, into the folder, and trains and evaluates as benchmarks.processors does, under qemu-aarch64
(Debian has it in qemu-user). For Debian and Python 3.11. The exit status says whether the files
differ.
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.processors import ROOT, table
from stages.edges.bad_input import BadInput, explained
from stages.edges.replacing import replacing

# ARM's first server processors, today's, and all that the emulator has, SVE included.
EMULATED = ("cortex-a72", "neoverse-n1", "max")
PYTHON = "python3.11"
DEBIAN = [
    *("libbz2-1.0", "libc6", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libgcc-s1"),
    *("liblzma5", "libncursesw6", "libnsl2", "libreadline8", "libsqlite3-0", "libssl3"),
    *("libstdc++6", "libtinfo6", "libtirpc3", "libuuid1", "media-types", "zlib1g", PYTHON),
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib"),
]
COPIED = {"antlr4-python3-runtime": "antlr4"}  # it has no wheel
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux2014", "manylinux_2_17")


def unpack_debian(folder: Path) -> None:
    """Makes folder/root of Debian's packages, from the sources of this system's apt."""
    state = folder / "apt"
    debs = folder / "debs"
    for path in (state / "lists/partial", state / "cache/archives/partial", debs):
        path.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    apt = [
        *("apt-get", "--quiet", "-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64"),
        *(f"-oDir::State::Lists={state}/lists", f"-oDir::State::status={state}/status"),
        f"-oDir::Cache={state}/cache",
    ]
    subprocess.run([*apt, "update"], check=True, stdout=sys.stderr)
    subprocess.run([*apt, "download", *DEBIAN], check=True, cwd=debs, stdout=sys.stderr)
    with replacing(folder / "root") as root:
        for deb in debs.glob("*.deb"):
            subprocess.run(["dpkg", "-x", deb, root], check=True)


def install_wheels(folder: Path) -> None:
    """Makes folder/site of the packages installed here, in the same versions."""
    pinned = re.findall(r"^[\w.-]+(?===)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    here = {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each.version
        for each in importlib.metadata.distributions()
    }
    # Others are for other systems.
    pins = [f"{name}=={here[name]}" for name in pinned if name in here and name not in COPIED]
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    with replacing(folder / "site") as site:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
                *(f"--target={site}", "--only-binary=:all:", "--python-version=3.11"),
                *platforms,
                *pins,
            ],
            check=True,
            stdout=sys.stderr,
        )
        for package in COPIED.values():
            (source,) = (path for path in map(Path, sys.path) if (path / package).is_dir())
            shutil.copytree(source / package, site / package)


def emulated(folder: Path, processor: str) -> list[str]:
    """The command of ARM's Python on a processor."""
    path = os.pathsep.join([str(folder / "site"), "."])
    qemu = ["qemu-aarch64", "-L", str(folder / "root"), "-cpu", processor]
    return [*qemu, "-E", f"PYTHONPATH={path}", str(folder / "root/usr/bin" / PYTHON)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("processors", nargs="*", default=EMULATED, help="as qemu-aarch64 -cpu help")
    parser.add_argument("--folder", type=Path, required=True, help="kept for the next time")
    arguments = parser.parse_args()
    for tool in ("qemu-aarch64", "apt-get", "dpkg"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; this is for Debian, with its package qemu-user")
    folder = arguments.folder.absolute()
    if sys.version_info[:2] != (3, 11):
        sys.exit("This is for Python 3.11, whose wheels it fetches")
    try:
        if not (folder / "root").exists():
            unpack_debian(folder)
        if not (folder / "site").exists():
            install_wheels(folder)
    except subprocess.CalledProcessError as problem:
        raise BadInput(f"{problem.cmd[0]} has failed; what is above says why") from None
    ways = {"this one": [sys.executable]}
    raise SystemExit(table(ways | {name: emulated(folder, name) for name in arguments.processors}))


if __name__ == "__main__":
    with explained():
        main()
