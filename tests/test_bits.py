"""User settings and the number of threads and cores do not change a bit of a training."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.training.threads import THREADS, processors, threads
from tests.project import ROOT, activated

# Only Linux has taskset.
ONE_CORE = (
    ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))) if shutil.which("taskset") else ()
)
# Settings of a user or shell. Some change the last bits, others the network that is trained.
KERAS_JSON = json.dumps(
    {"image_data_format": "channels_first", "floatx": "float64", "nnx_enabled": True}
)
USER_SETTINGS = {
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "1",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "3",
    "OMP_NUM_THREADS": "2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "PYTHONHASHSEED": "12",
}

# Trains two networks and prints their SHA-256: the tutorial's with small batches, and one with
# layers other than Dense with a large batch of distorted images.
TRAIN_TWO_NETWORKS = """
import hashlib, pathlib, sys
import numpy as np
from stages.data.scaling import Scaling
from stages.training.augmentation import Augmenter
from stages.training.build_network import build_network
from stages.training.compiled_epoch import compile_epochs
from stages.training.image_order import permutations
from stages.training.hyperparameters import Augmentation
from stages.training.model_file import save_network
from stages.training.network import LOSS, optimizer
from stages.training.tensorflow_setup import keras
from stages.training.threads import set_threads

set_threads()
path = pathlib.Path(sys.argv[1])
random = np.random.default_rng(0)
x = random.random((1_024, 28, 28), dtype=np.float32)
y = random.integers(0, 10, len(x)).astype(np.uint8)
keras.utils.set_random_seed(1)
others = keras.Sequential(
    [
        keras.Input((28, 28)),
        keras.layers.Reshape((28, 28, 1)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.BatchNormalization(),
        keras.layers.GaussianNoise(0.1),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
        keras.layers.LayerNormalization(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax", kernel_regularizer="l2"),
    ]
)
augmentation = Augmentation(
    rotation=20, scale=0.2, shear=10, shift=2, elastic_amplitude=1, elastic_smoothness=5
)
for batch_size, network, schedule, augmenter in (
    (32, build_network([512, 256, 128], 1, (28, 28), 10), "constant", None),
    (1_024, others, "cosine", Augmenter(augmentation, 1, 0.0, (28, 28))),
):
    network.compile(optimizer(0.001, schedule, 40), LOSS, metrics=["accuracy"])
    compile_epochs(network, x, y, batch_size, augmenter=augmenter)
    orders = permutations(len(x), 1, 1, 2)
    network.fit(orders, steps_per_epoch=1, epochs=2, shuffle=False, verbose=0)
    save_network(network, ["accuracy"], Scaling(0.0, 255.0), path)
    print(hashlib.sha256(path.read_bytes()).hexdigest())
path.unlink()
"""


@pytest.mark.slow
def test_user_settings_threads_and_cores_change_no_bit(tmp_path: Path) -> None:
    settings = tmp_path / "keras/keras.json"
    settings.parent.mkdir()
    settings.write_text(KERAS_JSON)
    digests = {
        subprocess.run(
            [*prefix, sys.executable, "-c", TRAIN_TWO_NETWORKS, tmp_path / "network.h5"],
            cwd=ROOT,
            env=activated() | {"HOME": str(tmp_path)} | environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=280,
        ).stdout
        for prefix, environment in (
            (ONE_CORE, USER_SETTINGS | {THREADS: "1", "KERAS_HOME": str(settings.parent)}),
            ((), {THREADS: "5"}),
        )
    }
    assert len(digests) == 1, digests
    assert settings.read_text() == KERAS_JSON
    assert not (tmp_path / ".keras").exists()


def test_there_are_never_fewer_than_two_threads() -> None:
    assert threads({}) == threads({THREADS: ""}) == max(2, processors())
    assert [threads({THREADS: text}) for text in ("1", "2", "3", "1024")] == [2, 2, 3, 1024]


@pytest.mark.parametrize("text", ["0", "-1", "1025", "2.0", "1_0", " 2", "all", "²", "9" * 9_999])
def test_an_invalid_number_of_threads_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=rf"\A{THREADS} is '.{{,40}}; .* from 1 to 1024\Z"):
        threads({THREADS: text})
