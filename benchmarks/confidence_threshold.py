"""The probability from which 99% of the recognized digits are correct.

    python -m benchmarks.confidence_threshold

This is CONFIDENCE_THRESHOLD of app/prediction_format.py. The tutorial's network is trained for ten
epochs without 10,000 of MNIST's training images, the same fraction of each digit, and recognizes
rows of these. Test images are not used.
"""

from pathlib import Path

import numpy as np

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
MIN_ACCURACY = 0.99


def main() -> None:
    x, y = load_split(RAW, "train", "uint8")  # (n, 28, 28), (n,)
    is_held_out = stratified_mask(y, HELD_OUT)
    scaling = Scaling.fit("unit", x[~is_held_out])
    data = {"x_train": scaling(x[~is_held_out]), "y_train": y[~is_held_out]}
    data |= {"x_test": scaling(x[is_held_out]), "y_test": y[is_held_out]}
    network = train_compiled(EPOCHS, SEED, BATCH_SIZE, keras.callbacks.Callback(), data)

    pictures = list(digit_rows(x[is_held_out], y[is_held_out], ROWS))
    # Incomplete rows do not tell which digit is which.
    digits = [
        (float(probabilities.max()), str(probabilities.argmax()) == label)
        for result in recognize("rows", pictures, network, scaling)
        if result.is_complete()
        for probabilities, label in zip(result.probabilities, result.label, strict=True)
    ]
    digits.sort(reverse=True)
    confidence = np.array([probability for probability, _ in digits])
    correct = np.array([is_correct for _, is_correct in digits])
    accuracy = np.cumsum(correct) / np.arange(1, len(correct) + 1)  # of the surest k digits
    last = np.flatnonzero(accuracy >= MIN_ACCURACY)[-1]
    print(f"{len(correct):,} digits, {correct.mean():.2%} correct")
    print(
        f"probability at least {confidence[last]:.4f}: {(last + 1) / len(correct):.1%} of them, "
        f"{accuracy[last]:.2%} correct"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
