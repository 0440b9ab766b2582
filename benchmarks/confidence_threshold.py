"""The entropy up to which 99.5% of the recognized digits are correct.

    python -m benchmarks.confidence_threshold

This is MAX_ENTROPY of app/recognition.py. The tutorial's network is trained for ten
epochs without 10,000 of MNIST's training images, the same fraction of each digit, and recognizes
rows of these. Test images are not used.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.recognition import entropy
from benchmarks.labelled_pictures import recognize
from benchmarks.synthetic_pictures import digit_rows
from benchmarks.training import BATCH_SIZE, train_compiled
from stages.common import command_line
from stages.data.arrays import load_split
from stages.data.scaling import Scaling
from stages.data.splits import stratified_mask
from stages.training.tensorflow_setup import keras

RAW = Path("data/raw")
HELD_OUT = 10_000
ROWS = 2_000
EPOCHS, SEED = 10, 42
MIN_ACCURACY = 0.995


def main() -> None:
    network, scaling, x, y = held_out_network()
    pictures = list(digit_rows(x, y, ROWS))
    # Incomplete rows do not tell which digit is which.
    results = [each for each in recognize("rows", pictures, network, scaling) if each.is_complete()]
    probabilities = np.concatenate([each.probabilities for each in results])  # (n, 10)
    labels = np.array([int(digit) for each in results for digit in each.label])
    entropies = entropy(probabilities)
    order = np.argsort(entropies)
    correct = (probabilities.argmax(axis=1) == labels)[order]
    accuracy = np.cumsum(correct) / np.arange(1, len(correct) + 1)  # of the surest k digits
    last = np.flatnonzero(accuracy >= MIN_ACCURACY)[-1]
    print(f"{len(correct):,} digits, {correct.mean():.2%} correct")
    print(
        f"entropy at most {entropies[order][last]:.4f}: {(last + 1) / len(correct):.1%} of them, "
        f"{accuracy[last]:.2%} correct"
    )


def held_out_network() -> tuple[Any, Scaling, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Trains the tutorial's network without 10,000 training images.

    Returns:
        The network, the scaling of its input, and the held-out images and labels: uint8 of shapes
        (10000, 28, 28) and (10000,).
    """
    x, y = load_split(RAW, "train", "uint8")  # (n, 28, 28), (n,)
    is_held_out = stratified_mask(y, HELD_OUT)
    scaling = Scaling.fit("unit", x[~is_held_out])
    data = {"x_train": scaling(x[~is_held_out]), "y_train": y[~is_held_out]}
    data |= {"x_test": scaling(x[is_held_out]), "y_test": y[is_held_out]}
    network = train_compiled(EPOCHS, SEED, BATCH_SIZE, keras.callbacks.Callback(), data)
    return network, scaling, x[is_held_out], y[is_held_out]


if __name__ == "__main__":
    command_line.run(main, __doc__)
