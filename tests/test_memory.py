"""Memory that does not grow with the data set."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.training.image_order import one_batch
from tests.project import ROOT, TUTORIAL, activated, set_parameters, write_idx

STATUS = Path("/proc/self/status")
pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")

PREPARE_DATA = """
import re, sys
from pathlib import Path
from stages import download, normalize
from stages.data.datasets import DATASETS, DataSet, PinnedFile

files, mirror = eval(sys.argv[1]), sys.argv[2]
files = {name: PinnedFile(*of) for name, of in files.items()}
DATASETS["large"] = DataSet(int(sys.argv[3]), ("a", "b"), "", files, (mirror,))
download.main()
normalize.main()
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def prepared_data(folder: Path, images: int) -> float:
    """Prepares data of 1,024 bytes each image, and checks it; returns the peak memory in MB."""
    x, y = np.zeros((images, 32, 32), np.uint8), np.arange(images, dtype=np.uint8) % 2
    x[y == 1] = 200
    arrays = {"x_train": x, "y_train": y, "x_test": x[:1_000], "y_test": y[:1_000]}
    folder.mkdir()
    files = write_idx(folder, arrays)
    validation = images // 3
    set_parameters(
        folder,
        TUTORIAL,
        {"download": {"dataset": "large"}},
        {"normalize": {"scaling": "standard", "validation": validation}},
    )
    output = subprocess.run(
        [sys.executable, "-c", PREPARE_DATA, repr(files), str(folder), str(images)],
        cwd=folder,
        env=activated() | {"PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    for split, of_split in (("train", x[:-validation]), ("validation", x[-validation:])):
        scaled = np.load(folder / f"data/normalized/x_{split}.npy", mmap_mode="r")
        np.testing.assert_array_equal(scaled, of_split.astype(np.float32) / 100 - 1)
    return int(output.split()[-1]) * 1_024 / 1e6


def test_memory_of_download_and_normalize_does_not_grow_with_the_data(tmp_path: Path) -> None:
    small = prepared_data(tmp_path / "small", 3_000)
    # 61 MB, and 246 MB as float32.
    assert prepared_data(tmp_path / "large", 60_000) - small < 30


def test_validation_images_are_not_copied() -> None:
    def own_memory() -> int:
        """Bytes of memory other than mapped files."""
        (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", STATUS.read_text())
        return int(kilobytes) * 1_024

    x, y = np.ones((60_000, 28, 28), np.float32), np.ones(60_000, np.uint8)
    before = own_memory()
    ((images, _),) = one_batch(x, y)
    assert images.shape == x.shape
    assert own_memory() - before < x.nbytes / 4
