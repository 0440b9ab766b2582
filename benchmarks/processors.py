"""Whether a training has the same bits on other x86-64 processors, without having them.

    python -m benchmarks.processors

Eigen and YNNPACK, in which TensorFlow multiplies, look once at the processor and remember what
they saw. Here that is written over in their memory, before they look. The places are told by
binutils' nm, so this is for Linux. It reads data/normalized: dvc repro.
"""

import ctypes
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.training import compiled, load

LIBRARY = "libtensorflow_cc.so.2"
# What Eigen and YNNPACK remember, as the pinned TensorFlow's compiler named it: the sizes of the
# L1, L2 and L3 cache in bytes, and flags of instructions, the lowest seven up to AVX2 and FMA.
CACHES = "_ZZN5Eigen8internal20manage_caching_sizesENS_6ActionEPlS2_S2_E12m_cacheSizes"
FLAGS = "_ZZN3ynn24get_supported_arch_flagsEvE5flags"
KB = 1024
Sizes = ctypes.c_long * 3
PROCESSORS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "32 KB L1, 512 KB L2": {CACHES: Sizes(32 * KB, 512 * KB, 32 * KB * KB)},
    "48 KB L1, 2 MB L2": {CACHES: Sizes(48 * KB, 2 * KB * KB, 105 * KB * KB)},
    "32 KB L1, 256 KB L2, no AVX-512": {
        CACHES: Sizes(32 * KB, 256 * KB, 8 * KB * KB),
        FLAGS: ctypes.c_uint64(0b111_1111),
    },
}


def pretend(remembered: dict[str, Any]) -> None:
    """Has this process believe in a processor. TensorFlow is loaded, but has computed nothing."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    mapped = [words for words in lines if words[-1].endswith(LIBRARY)]
    start = min(int(words[0].split("-")[0], 16) for words in mapped)
    command = ["nm", "--defined-only", mapped[0][-1]]
    table = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    symbols = [line.split() for line in table.splitlines()]
    places = {name: start + int(place, 16) for place, _, name in symbols}

    for name, value in remembered.items():
        ctypes.memmove(places[name], ctypes.byref(value), ctypes.sizeof(value))
        # The guard, by which C++ tells that a static variable is initialized.
        ctypes.c_bool.from_address(places[name.replace("_ZZ", "_ZGVZ", 1)]).value = True


def main() -> None:
    if sys.argv[1:]:
        from stages.training.repeatable import keras

        pretend(PROCESSORS[sys.argv[1]])
        network = compiled(1, 0, keras.callbacks.Callback(), load())
        print(hashlib.md5(b"".join(map(bytes, network.get_weights()))).hexdigest())  # noqa: S324
        return
    print("| processor | MD5 of the weights after an epoch |")
    print("| --- | --- |")
    digests = set()
    for processor in PROCESSORS:
        command = [sys.executable, "-m", "benchmarks.processors", processor]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        digests.add(output)
        print(f"| {processor} | {output.strip()} |")
    raise SystemExit(len(digests) > 1)


if __name__ == "__main__":
    main()
