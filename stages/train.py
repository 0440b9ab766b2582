"""Stage train: trains the network, from its first epoch or from a checkpoint."""

import math
from pathlib import Path

import numpy as np

from stages.common import command_line
from stages.common.params import check_range, read_section
from stages.common.progress import Progress
from stages.data.arrays import load_array, load_classes, load_split
from stages.data.scaling import Scaling
from stages.training import network as definition
from stages.training.augmentation import Augmenter
from stages.training.build_network import build_network, compile_network
from stages.training.callbacks import SaveCheckpoint, ShowProgress, StopAtDivergence
from stages.training.checkpoint import Checkpoint, dependencies
from stages.training.compiled_epoch import compile_epochs
from stages.training.definition_checks import check_callbacks
from stages.training.history import check_declared, write_history
from stages.training.hyperparameters import Augmentation, Model, Train
from stages.training.image_order import one_batch, permutations
from stages.training.labels import encode_labels
from stages.training.model_file import save_network
from stages.training.network_checks import compilation_errors
from stages.training.tensorflow_setup import keras
from stages.training.threads import set_threads

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/train")
CHECKPOINT = Path("checkpoint.npz")


def main() -> None:
    model, train = read_section(Model), read_section(Train)
    augmentation = read_section(Augmentation)
    set_threads()
    x, y = load_split(NORMALIZED, "train", "float32")  # (n, h, w, …), (n,)
    check_range("train.batch_size", train.batch_size, 1, len(y))
    x_val, y_val = load_split(NORMALIZED, "validation", "float32")
    if not len(y_val):
        # As in the tutorial. Nothing is selected by these metrics.
        x_val, y_val = load_split(NORMALIZED, "test", "float32")
    image_shape, classes = x.shape[1:], len(load_classes(NORMALIZED))
    validation = one_batch(x_val, encode_labels(y_val, classes, definition.LOSS))
    scaling = Scaling(*load_array(NORMALIZED / "scaling.npy", "float64", ()))
    user_callbacks = definition.callbacks()
    check_callbacks(user_callbacks)

    network = build_network(model.hidden_units, train.seed, image_shape, classes)
    batches = math.ceil(len(y) / train.batch_size)
    optimizer = definition.optimizer(train.learning_rate, train.schedule, train.epochs * batches)
    metrics = definition.metrics()
    compile_network(network, optimizer, definition.LOSS, metrics)
    augmenter = None
    if augmentation.is_active():
        background = float(scaling(np.zeros(1))[0])
        augmenter = Augmenter(augmentation, train.seed, background, image_shape)
    labels = encode_labels(y, classes, definition.LOSS)
    weights = definition.sample_weight(y)
    compile_epochs(network, x, labels, train.batch_size, weights, augmenter)
    names = sorted(network.get_metrics_result(), key=lambda name: name != "loss")
    check_declared(names, METRICS)

    parameters = f"{model!r} {train!r} {augmentation!r}"
    checkpoint = Checkpoint(CHECKPOINT, dependencies(NORMALIZED, parameters))
    saved_callbacks = [keras.callbacks.History(), *user_callbacks]
    saving = SaveCheckpoint(checkpoint, saved_callbacks)
    done = saving.load(network, train.epochs)
    with (
        write_history(METRICS, names) as history,
        Progress("training", train.epochs, " epochs", done) as progress,
        compilation_errors(network),
    ):
        for logs in saving.history:
            history.add_epoch(logs)
        callbacks = [
            StopAtDivergence(train.learning_rate),
            *saved_callbacks,
            saving,
            # After the checkpoint, which then has every epoch of the history.
            keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: history.add_epoch(logs)),
            ShowProgress(progress, train.epochs, names),
        ]
        network.fit(
            permutations(len(y), train.seed, done + 1, train.epochs),
            steps_per_epoch=1,
            initial_epoch=done,
            epochs=train.epochs,
            validation_data=validation,
            # `params` of a callback has the number of batches, which is not that of steps here.
            callbacks=keras.callbacks.CallbackList(
                callbacks, model=network, epochs=train.epochs, steps=batches, verbose=0
            ),
            shuffle=False,  # `permutations` shuffles
            verbose=0,
        )
        epoch, logs = saving.epoch_of_weights(network, validation)
        history.set_metrics(epoch, logs)
    save_network(network, metrics, scaling, MODEL)
    checkpoint.remove()
    last = len(saving.history)
    best = "" if epoch == last else f", of which the network is that of epoch {epoch}"
    print(
        f"{last} epoch{'s' if last > 1 else ''}{best}: "
        f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f}"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
