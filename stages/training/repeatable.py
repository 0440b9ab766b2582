"""TensorFlow, set up so that it gives the same bits again; the only module to import it.

Everything that decides bits and must be set before the import is set here: others take
`keras` and `tf` from this module. Measured: once the seed is fixed, the last bits of a training
depend on whether it has one thread or more and, unless they are kept from it, on the instructions
and the caches that TensorFlow finds in the processor.
"""

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from stages.training.threads import threads

# How Keras, TensorFlow, XLA, oneDNN and OpenMP are told things; each by several dozen variables.
SETTINGS = ("KERAS_", "TF_", "XLA_", "DNNL_", "ONEDNN_", "OMP_", "KMP_", "MKL_")
# None that this user or shell has set may reach them: some change bits, others what is trained.
for variable in [name for name in os.environ if name.startswith(SETTINGS)]:
    del os.environ[variable]
os.environ |= {
    # AVX2 is what nearly every x86-64 processor of the last ten years has. Other kinds of
    # processor ignore the caps.
    "DNNL_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"
    # YNNPACK, in which XLA computes products, knows no cap, but how to add up alike.
    " --xla_cpu_enable_platform_dependent_math=false"
    # Or it would not get those of the gradients; see products.dense.
    " --xla_disable_hlo_passes=transpose-folding",
    "KERAS_BACKEND": "tensorflow",
    # Keras would read the user's keras.json, or write one. Here it can do neither.
    "KERAS_HOME": os.devnull,
    "CUDA_VISIBLE_DEVICES": "-1",  # a GPU would add in another order
    "TF_CPP_MIN_LOG_LEVEL": "2",  # errors: what warnings say, its exceptions say too
}

# What TensorFlow and Keras tell everyone at every start, and nobody can act on here.
NOISE = (
    "All log messages before absl::InitializeLog()",
    "oneDNN custom operations are on",
    "cuda",
    "CUDA",
    "HDF5 file via `model.save()`",
)


def is_noise(line: str) -> bool:
    return any(noise in line for noise in NOISE)


@contextmanager
def without_noise() -> Iterator[None]:
    """Holds back what C++ code writes to the standard error, and passes on what is not NOISE."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held_back.seek(0)
            for line in held_back:
                if not is_noise(line):
                    sys.stderr.write(line)


# Of use to none of the stages, and half a second: what Keras imports where it is installed,
# scikit-learn (here for mlxtend) and pyplot. None has it believe that there is none.
unused = [name for name in ("sklearn", "matplotlib.pyplot") if name not in sys.modules]
sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type]
# The imports make a million objects and no garbage: to look for some among them, now and at the
# exit, would take another two seconds.
gc.disable()
with without_noise():
    import keras
    import tensorflow as tf
gc.freeze()
gc.enable()
for name in unused:
    del sys.modules[name]

logging.getLogger("absl").addFilter(lambda record: not is_noise(record.getMessage()))

__all__ = ["keras", "set_threads", "tf"]


def set_threads() -> None:
    """Sets the number of threads of an operation. Once a process, before it computes.

    Raises:
        BadInput: what the environment says of it is no number of threads.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads(os.environ))
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with without_noise():
        tf.config.list_logical_devices()  # looks for a GPU now, and complains now
