"""Stage train: trains the network, from its first epoch or from a checkpoint."""

import math
from pathlib import Path

import numpy as np

from stages.common import command_line
from stages.common.params import check_range, read_section
from stages.common.progress import Progress
from stages.data.arrays import SUMS, load_array, load_classes, load_split
from stages.data.scaling import Scaling
from stages.training import network as definition
from stages.training.augmentation import Augmenter
from stages.training.build_network import build_network
from stages.training.callbacks import SaveCheckpoint, ShowProgress, StopAtDivergence, WriteHistory
from stages.training.checkpoint import Checkpoint, digest
from stages.training.compiled_epoch import CompiledEpoch, one_batch, permutations
from stages.training.history import write_history
from stages.training.hyperparameters import Augmentation, Model, Train
from stages.training.model_file import save_network
from stages.training.network_checks import compilation_errors
from stages.training.threads import set_threads

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/train")
CHECKPOINT = Path("checkpoint.npz")


def main() -> None:
    model, train = read_section(Model), read_section(Train)
    augmentation = read_section(Augmentation)
    set_threads()
    epochs, seed = train.epochs, train.seed
    x, y = load_split(NORMALIZED, "train", "float32")  # (n, h, w, …), (n,)
    check_range("train.batch_size", train.batch_size, 1, len(y))
    x_val, y_val = load_split(NORMALIZED, "validation", "float32")
    if not len(y_val):
        # As in the tutorial. Nothing is selected by these values.
        x_val, y_val = load_split(NORMALIZED, "test", "float32")
    scaling = Scaling(*load_array(NORMALIZED / "scaling.npy", "float64", ()))

    image_shape, classes = x.shape[1:], len(load_classes(NORMALIZED))
    network = build_network(model.hidden_units, seed, image_shape, classes)
    black = float(scaling(np.zeros(1))[0])
    is_augmented = augmentation.is_active()
    augmenter = Augmenter(augmentation, seed, black, image_shape) if is_augmented else None
    trainer = CompiledEpoch(network, x, y, train.batch_size, augmenter)
    steps = epochs * math.ceil(len(y) / train.batch_size)
    optimizer = definition.optimizer(train.learning_rate, train.schedule, steps)
    trainer.compile(optimizer, definition.LOSS)
    checkpoint = Checkpoint(
        CHECKPOINT,
        {
            "data": digest([NORMALIZED / SUMS]),
            "parameters": f"{model!r} {train!r} {augmentation!r}",
            "code": digest([Path("requirements.txt"), *sorted(Path("stages").rglob("*.py"))]),
        },
    )
    saving = SaveCheckpoint(checkpoint)
    saving.resume(trainer, epochs)
    done = len(saving.history)
    if done:
        print(f"Resuming after epoch {done} ({CHECKPOINT})")

    with (
        write_history(METRICS) as log,
        Progress("training", epochs, " epochs", done) as progress,
        compilation_errors(network),
    ):
        for logs in saving.history:
            log(logs)
        trainer.fit(
            permutations(len(y), seed, done + 1, epochs),
            steps_per_epoch=1,
            initial_epoch=done,
            epochs=epochs,
            validation_data=one_batch(x_val, y_val),
            callbacks=[
                StopAtDivergence(train.learning_rate),
                saving,
                WriteHistory(log),
                ShowProgress(progress, epochs),
            ],
            shuffle=False,  # `permutations` shuffles
            verbose=0,
        )
    save_network(network, scaling, MODEL)
    checkpoint.remove()
    last = saving.history[-1]
    plural = "s" if epochs > 1 else ""
    print(f"{epochs} epoch{plural}: loss {last['loss']:.4f}, accuracy {last['accuracy']:.4f}")


if __name__ == "__main__":
    command_line.run(main, __doc__)
