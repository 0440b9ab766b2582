"""Digests of the pipeline's results on emulated ARM processors and on this x86-64 processor.

    python -m benchmarks.arm --folder /var/tmp/arm

It trains and evaluates as benchmarks.processors does, in qemu-aarch64 (on Debian, in the package
qemu-user). Debian's Python for arm64 and the wheels of requirements.txt, 2 GB, are downloaded into
the directory, which can be used again. It needs Debian and Python 3.11. The exit status is 1 if
results differ.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.processors import compare_processors
from experiments.study.cluster import installed_versions
from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError

# Processors of 2015 and 2019, and one with all features that QEMU emulates, including SVE.
EMULATED = ("cortex-a72", "neoverse-n1", "max")
PYTHON = "python3.11"
DEBIAN_PACKAGES = [
    *("libbz2-1.0", "libc6", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libgcc-s1"),
    *("liblzma5", "libncursesw6", "libnsl2", "libreadline8", "libsqlite3-0", "libssl3"),
    *("libstdc++6", "libtinfo6", "libtirpc3", "libuuid1", "media-types", "zlib1g", PYTHON),
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib"),
]
# Packages without a wheel, in pure Python, and the directories that are copied instead.
COPIED_PACKAGES = {"antlr4-python3-runtime": "antlr4"}
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux2014", "manylinux_2_17")


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.arm", description=__doc__)
    parser.add_argument(
        "processors", nargs="*", default=EMULATED, help="see qemu-aarch64 -cpu help"
    )
    parser.add_argument("--folder", type=Path, required=True, help="for the downloads")
    arguments = parser.parse_args()
    for tool in ("qemu-aarch64", "apt-get", "dpkg"):
        if not shutil.which(tool):
            raise UserError(f"{tool} is missing; on Debian, apt install qemu-user dpkg apt")
    if sys.version_info[:2] != (3, 11):
        raise UserError(f"this is Python {sys.version.split()[0]}; expected 3.11, as in Debian")
    directory = arguments.folder.absolute()
    try:
        if not (directory / "root").exists():
            unpack_debian(directory)
        if not (directory / "site").exists():
            install_wheels(directory)
    except subprocess.CalledProcessError as problem:
        raise UserError(f"{problem.cmd[0]}: exit status {problem.returncode}") from None
    commands = {name: emulator_command(directory, name) for name in arguments.processors}
    sys.exit(not compare_processors(commands))


def unpack_debian(directory: Path) -> None:
    """Unpacks Debian's packages for arm64, from the sources of this system, into root/."""
    state = directory / "apt"
    debs = directory / "debs"
    for path in (state / "lists/partial", state / "cache/archives/partial", debs):
        path.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    apt = [
        *("apt-get", "--quiet", "-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64"),
        *(f"-oDir::State::Lists={state}/lists", f"-oDir::State::status={state}/status"),
        f"-oDir::Cache={state}/cache",
    ]
    subprocess.run([*apt, "update"], check=True, stdout=sys.stderr)
    subprocess.run([*apt, "download", *DEBIAN_PACKAGES], check=True, cwd=debs, stdout=sys.stderr)
    with atomic_write(directory / "root") as root:
        for deb in debs.glob("*.deb"):
            subprocess.run(["dpkg", "-x", deb, root], check=True)


def install_wheels(directory: Path) -> None:
    """Installs wheels for ARM, in the versions of the packages installed here, into site/."""
    pinned = re.findall(r"^[\w.-]+(?===)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    installed = installed_versions()
    # Pinned packages that are not installed are for other systems.
    pins = [
        f"{name}=={installed[name]}"
        for name in pinned
        if name in installed and name not in COPIED_PACKAGES
    ]
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    with atomic_write(directory / "site") as site:
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
        for package in COPIED_PACKAGES.values():
            (source,) = (path for path in map(Path, sys.path) if (path / package).is_dir())
            shutil.copytree(source / package, site / package)


def emulator_command(directory: Path, processor: str) -> list[str]:
    """The command that starts Debian's Python on an ARM processor."""
    path = os.pathsep.join([str(directory / "site"), "."])
    qemu = ["qemu-aarch64", "-L", str(directory / "root"), "-cpu", processor]
    return [*qemu, "-E", f"PYTHONPATH={path}", str(directory / "root/usr/bin" / PYTHON)]


if __name__ == "__main__":
    command_line.run(main)
