"""Import of TensorFlow and Keras with settings that make results reproducible.

Other modules import `keras` and `tf` from here, since these settings must be made before the first
import. With a fixed seed, the last bits of a training still depend on whether it has one thread or
more, and by default on the processor's instruction set and cache sizes.

The seed itself is used in build_network.py (weights), image_order.py (order of the images) and
augmentation.py.
"""

import gc
import logging
import os
import sys

from stages.training.stderr_filter import filtered_stderr, is_noise

# User settings of TensorFlow and Keras are removed: several of them change the results.
PREFIXES = ("KERAS_", "TF_", "XLA_", "DNNL_", "ONEDNN_", "OMP_", "KMP_", "MKL_")
for variable in [name for name in os.environ if name.startswith(PREFIXES)]:
    del os.environ[variable]
os.environ |= {
    # Nearly every x86-64 processor since 2013 has AVX2. Other architectures ignore the limits.
    "DNNL_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"
    # YNNPACK, which computes XLA's matrix products, ignores the limit, but follows this option.
    " --xla_cpu_enable_platform_dependent_math=false"
    # XLA would pass a matmul with a folded transpose to Eigen: see deterministic_layers.dense.
    " --xla_disable_hlo_passes=transpose-folding",
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,  # ignore the user's keras.json, and write none
    "CUDA_VISIBLE_DEVICES": "-1",  # a GPU adds in a different order
    "TF_CPP_MIN_LOG_LEVEL": "2",  # errors only; exceptions tell what warnings say
}

# Keras imports scikit-learn and pyplot if they are installed. No stage needs them, and they take
# half a second. An entry None in sys.modules makes their import fail.
unused = [name for name in ("sklearn", "matplotlib.pyplot") if name not in sys.modules]
sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type]
# Garbage collection is off during the import: it would traverse a million live objects and take
# 2 s. freeze() spares these objects at later collections and at exit, too.
gc.disable()
with filtered_stderr():
    import keras
    import tensorflow as tf
gc.freeze()
gc.enable()
for name in unused:
    del sys.modules[name]

logging.getLogger("absl").addFilter(lambda record: not is_noise(record.getMessage()))

__all__ = ["keras", "tf"]
