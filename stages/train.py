"""Stage train: the tutorial's network, from scratch, or on from where it was killed."""

import math
from pathlib import Path

import numpy as np

from stages.data.arrays import SUMS, load_array, load_split
from stages.data.scaling import Scaling
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import check_bounds, read_section
from stages.edges.progress import Progress
from stages.training.callbacks import SaveCheckpoint, ShowProgress, StopAtDivergence, WriteHistory
from stages.training.checkpoint import Checkpoint, digest
from stages.training.compiled_epoch import CompiledEpoch, one_batch, permutations
from stages.training.history import history_in
from stages.training.network import LOSS, build_network, build_optimizer, save_network
from stages.training.parameters import Model, Train, Warp
from stages.training.repeatable import set_threads
from stages.training.unsupported import explaining_compilation
from stages.training.warps import Warping

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/train")
CHECKPOINT = Path("checkpoint.npz")


def main() -> None:
    model, train, warp = read_section(Model), read_section(Train), read_section(Warp)
    set_threads()
    epochs, seed = train.epochs, train.seed
    x, y = load_split(NORMALIZED, "train", "float32")  # (n, 28, 28), (n,)
    check_bounds("train.batch_size", train.batch_size, 1, len(y))
    x_watched, y_watched = load_split(NORMALIZED, "validation", "float32")
    if not len(y_watched):
        # As the tutorial does. Nothing is selected by it.
        x_watched, y_watched = load_split(NORMALIZED, "test", "float32")
    scaling = Scaling(*load_array(NORMALIZED / "scaling.npy", "float64", ()))

    network = build_network(model.hidden_units, seed)
    black = float(scaling(np.zeros(1))[0])
    warping = Warping(warp, seed, black) if warp.moves() else None
    trainer = CompiledEpoch(network, x, y, train.batch_size, warping)
    steps = epochs * math.ceil(len(y) / train.batch_size)
    trainer.compile(build_optimizer(train.learning_rate, train.schedule, steps), LOSS)
    checkpoint = Checkpoint(
        CHECKPOINT,
        {
            "data": digest([NORMALIZED / SUMS]),
            "parameters": f"{model!r} {train!r} {warp!r}",
            "code": digest([Path("requirements.txt"), *sorted(Path("stages").rglob("*.py"))]),
        },
    )
    saving = SaveCheckpoint(checkpoint)
    saving.resume(trainer, epochs)
    done = len(saving.history)

    with (
        history_in(METRICS) as log,
        Progress("training", epochs, " epochs", done) as progress,
        explaining_compilation(network),
    ):
        for logs in saving.history:
            log(logs)
        trainer.fit(
            permutations(len(y), seed, done + 1, epochs),
            steps_per_epoch=1,
            initial_epoch=done,
            epochs=epochs,
            validation_data=one_batch(x_watched, y_watched),
            callbacks=[
                StopAtDivergence(train.learning_rate),
                saving,
                WriteHistory(log),
                ShowProgress(progress, epochs),
            ],
            shuffle=False,  # permutations are
            verbose=0,
        )
    save_network(network, scaling, MODEL)
    checkpoint.remove()
    last = saving.history[-1]
    print(f"{len(saving.history)} epochs: loss {last['loss']:.4f}, accuracy {last['accuracy']:.4f}")


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
