"""The compiled epoch trains as Keras does batch by batch, and refuses layers that it cannot."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from stages.common.errors import UserError
from stages.training.build_network import build_network
from stages.training.compiled_epoch import compile_epochs
from stages.training.deterministic_layers import deterministic_layers
from stages.training.image_order import one_batch, permutations
from stages.training.labels import encode_labels
from stages.training.network_checks import check_trainable, compilation_errors
from stages.training.tensorflow_setup import keras, tf

IMAGES, CLASSES, EPOCHS = 24, 10, 2
RANDOM = np.random.default_rng(0)
X = RANDOM.random((IMAGES, 28, 28), dtype=np.float32)
Y = RANDOM.integers(0, CLASSES, IMAGES).astype(np.uint8)


def fit(network: Any, epochs: int, **options: Any) -> dict[str, list[float]]:
    """Trains and returns Keras's history: metric to its value after each epoch."""
    orders = permutations(IMAGES, 3, 1, epochs)
    history: dict[str, list[float]] = network.fit(
        orders, steps_per_epoch=1, epochs=epochs, shuffle=False, verbose=0, **options
    ).history
    return history


def batches(batch_size: int, *arrays: Any) -> Any:
    """The batches of `permutations`, one after the other, for plain Keras."""

    def generate() -> Iterator[tuple[Any, ...]]:
        for epoch in range(1, EPOCHS + 1):
            order = np.random.default_rng([3, epoch]).permutation(IMAGES)
            for start in range(0, IMAGES, batch_size):
                yield tuple(array[order[start : start + batch_size]] for array in arrays)

    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays)
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


@keras.saving.register_keras_serializable()
class Halves(keras.layers.Layer):  # type: ignore[misc]
    """A custom layer with a nested dense layer, a loss, and a variable that counts images."""

    def build(self, shape: Any) -> None:
        self.dense = keras.layers.Dense(shape[-1] // 2, activation="relu")
        self.dense.build(shape)
        self.images = self.add_weight(name="images", initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.dense(x)
        self.add_loss(1e-2 * keras.ops.mean(y))
        if training:
            self.images.assign_add(keras.ops.shape(x)[0])
        return y


def sequential(*layers: Any) -> Any:
    return keras.Sequential(
        [keras.Input((28, 28)), *layers, keras.layers.Dense(10, activation="softmax")]
    )


def multilayer(**options: Any) -> Any:
    dense = [keras.layers.Dense(units, activation="relu", **options) for units in (16, 12)]
    return sequential(keras.layers.Flatten(), *dense)


def regularized() -> Any:
    return multilayer(
        use_bias=False,
        kernel_regularizer=keras.regularizers.L1L2(0.01, 0.01),
        activity_regularizer="l2",
        kernel_constraint=keras.constraints.MaxNorm(1),
    )


def convolutional() -> Any:
    return sequential(
        keras.layers.Reshape((28, 28, 1)),
        keras.layers.Conv2D(4, 3, strides=2),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.ReLU(),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
    )


def functional() -> Any:
    inputs = keras.Input((28, 28))
    rows = keras.layers.Dense(6, activation="tanh")(inputs)  # (n, 28, 6)
    x = keras.layers.Flatten()(rows)
    x = keras.layers.Add()([Halves()(x), keras.layers.Dense(84)(x)])
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


def sgd(rate: Any = 0.05, **options: Any) -> Any:
    return keras.optimizers.SGD(rate, momentum=0.9, **options)


def half_cross_entropy(labels: Any, probabilities: Any) -> Any:
    """A custom loss, for each image."""
    return 0.5 * keras.losses.sparse_categorical_crossentropy(labels, probabilities)


CROSS_ENTROPY = "sparse_categorical_crossentropy"
ACCURACY = ("accuracy",)


@keras.saving.register_keras_serializable()
class WorstClass(keras.metrics.Metric):  # type: ignore[misc]
    """A custom metric with a state: the lowest probability that an actual class ever got."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lowest = self.add_variable((), "ones")

    def update_state(self, y: Any, probabilities: Any, sample_weight: Any = None) -> None:  # noqa: ARG002
        actual = keras.ops.take_along_axis(probabilities, keras.ops.cast(y, "int32")[:, None], 1)
        self.lowest.assign(keras.ops.minimum(self.lowest, keras.ops.min(actual)))

    def result(self) -> Any:
        return self.lowest

    def reset_state(self) -> None:
        self.lowest.assign(1.0)


def mean_confidence(_: Any, probabilities: Any) -> Any:
    return keras.ops.max(probabilities, axis=-1)


def cosine_decay() -> Any:
    return keras.optimizers.schedules.CosineDecay(0.05, 5)


def reduce_rate() -> Any:
    return keras.callbacks.ReduceLROnPlateau(min_delta=10, patience=1, factor=0.1)


class Change(NamedTuple):
    """What a user changes in stages/training/network.py; the defaults are a small network's."""

    build: Callable[[], Any] = multilayer
    optimizer: Callable[[], Any] = sgd
    loss: Any = CROSS_ENTROPY
    metrics: Callable[[], list[Any]] = lambda: [*ACCURACY]
    callbacks: Callable[[], list[Any]] = list
    class_weight: dict[int, float] | None = None
    sample_weight: Any = None
    batch_size: int = 12
    policy: str = "float32"


def with_metrics(*more: Callable[[], Any], **options: Any) -> Change:
    return Change(metrics=lambda: [*ACCURACY, *(metric() for metric in more)], **options)


losses, optimizers, callbacks = keras.losses, keras.optimizers, keras.callbacks
CHANGES = {
    "nothing": Change(),
    "regularizers and constraints": Change(build=regularized),
    "batch statistics": Change(build=convolutional),
    "functional, custom layer": Change(build=functional),
    "one batch": Change(batch_size=IMAGES),
    "a smaller last batch": Change(batch_size=10),
    "Adam": Change(optimizer=lambda: optimizers.Adam(0.01)),
    "Lion with EMA": Change(optimizer=lambda: optimizers.Lion(0.001, use_ema=True)),
    "clipping and decay": Change(optimizer=lambda: sgd(clipnorm=0.1, weight_decay=0.1)),
    "schedule": Change(optimizer=lambda: sgd(cosine_decay(), global_clipnorm=0.5)),
    "accumulation": Change(optimizer=lambda: sgd(gradient_accumulation_steps=2)),
    "mixed precision": Change(policy="mixed_float16"),
    "loss object": Change(loss=losses.SparseCategoricalCrossentropy()),
    "loss function": Change(loss=half_cross_entropy),
    "sum": Change(
        loss=losses.SparseCategoricalCrossentropy(reduction="sum"),
        optimizer=lambda: sgd(0.01),
    ),
    "label smoothing": Change(loss=losses.CategoricalCrossentropy(label_smoothing=0.1)),
    "mse": Change(loss="mse"),
    "focal": Change(loss="categorical_focal_crossentropy"),
    "crossentropy": Change(loss="crossentropy"),
    "top k": with_metrics(lambda: keras.metrics.SparseTopKCategoricalAccuracy(3, "top_3")),
    "AUC": with_metrics(
        lambda: keras.metrics.AUC(multi_label=True, name="auc"), loss="categorical_crossentropy"
    ),
    "F score": with_metrics(
        lambda: keras.metrics.F1Score("macro", name="f1"), loss="categorical_crossentropy"
    ),
    "three metrics": with_metrics(
        lambda: "sparse_categorical_crossentropy",
        lambda: keras.metrics.SparseTopKCategoricalAccuracy(2, "top_2"),
        lambda: keras.metrics.SparseCategoricalAccuracy("again"),
    ),
    "metric function": with_metrics(lambda: mean_confidence),
    "custom metric": with_metrics(lambda: WorstClass(name="worst")),
    "class weights": Change(class_weight=dict.fromkeys(range(CLASSES), 1.0) | {3: 5.0, 4: 0.0}),
    "sample weights": Change(sample_weight=np.linspace(0, 2, IMAGES)),
    "sample weights and one-hot": Change(
        sample_weight=np.linspace(0, 2, IMAGES), loss="categorical_crossentropy"
    ),
    "reduced rate": Change(callbacks=lambda: [reduce_rate()]),
    "rate by epoch": Change(
        callbacks=lambda: [callbacks.LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))]
    ),
    "early stopping": Change(
        callbacks=lambda: [
            callbacks.EarlyStopping("val_accuracy", 10, 1, restore_best_weights=True)
        ]
    ),
    "swapped EMA": Change(
        optimizer=lambda: optimizers.Adam(0.01, use_ema=True),
        callbacks=lambda: [callbacks.SwapEMAWeights(swap_on_epoch=True)],
    ),
}


# The other changes are trained with -m long.
OFTEN = (
    "batch statistics",
    "functional, custom layer",
    "a smaller last batch",
    "Lion with EMA",
    "accumulation",
    "mixed precision",
    "sum",
    "label smoothing",
    "three metrics",
    "custom metric",
    "class weights",
    "early stopping",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=name, marks=() if name in OFTEN else pytest.mark.long)
        for name, change in CHANGES.items()
    ],
)
def test_a_network_is_trained_as_by_keras(change: Change) -> None:
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(change.policy)
    try:
        ours = change.build()
        theirs = keras.models.clone_model(ours)
    finally:
        keras.config.set_dtype_policy("float32")
    theirs.set_weights(ours.get_weights())
    for network, is_eager in ((ours, False), (theirs, True)):
        network.compile(
            change.optimizer(), change.loss, metrics=change.metrics(), run_eagerly=is_eager
        )
    labels = encode_labels(Y, CLASSES, change.loss)
    weights = change.sample_weight
    if change.class_weight:
        weights = np.array([change.class_weight[label] for label in Y])
    compile_epochs(ours, X, labels, change.batch_size, weights)
    history = fit(ours, EPOCHS, validation_data=one_batch(X, labels), callbacks=change.callbacks())

    arrays = [X, labels] if change.sample_weight is None else [X, labels, change.sample_weight]
    expected = theirs.fit(
        batches(change.batch_size, *arrays),
        steps_per_epoch=-(-IMAGES // change.batch_size),
        epochs=EPOCHS,
        validation_data=(X, labels),
        validation_batch_size=change.batch_size,
        class_weight=change.class_weight,
        callbacks=change.callbacks(),
        shuffle=False,
        verbose=0,
    ).history
    tolerance = 1e-4 if change.policy == "float32" else 1e-2
    assert set(history) == set(expected)
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, rel=tolerance, abs=1e-6), name
    for our_weights, their_weights in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(our_weights, their_weights, atol=tolerance)


class Statistics(keras.layers.Layer):  # type: ignore[misc]
    """Passes its input on, and counts its images in training, their sum and sum of squares.

    `deviation` is the sum of |x - 1| out of training.
    """

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.sums = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)
        self.squares = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)
        self.deviation = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.count.assign_add(keras.ops.shape(x)[0])
            self.sums.assign_add(keras.ops.sum(x, axis=0))
            self.squares.assign_add(keras.ops.sum(x**2, axis=0))
        else:
            self.deviation.assign_add(keras.ops.sum(abs(x - 1)))
        return x


def test_random_layers_draw_new_numbers_for_each_batch_in_training_only() -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((28, 28))
    flat = keras.layers.Flatten()(inputs)
    after_dropout, after_noise = Statistics(), Statistics()
    dropped = after_dropout(keras.layers.Dropout(0.3)(flat))
    noisy = after_noise(keras.layers.GaussianNoise(0.5)(flat))
    both = keras.layers.Add()([dropped, noisy])
    network = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(both))
    ones = np.ones_like(X)
    network.compile(sgd(), CROSS_ENTROPY, metrics=["accuracy"])
    compile_epochs(network, ones, Y, 8)
    fit(network, 20, validation_data=one_batch(ones, Y))

    for statistics, variance in ((after_dropout, 0.3 / 0.7), (after_noise, 0.5**2)):
        n = float(statistics.count.numpy())
        assert n == 20 * IMAGES
        mean, square = statistics.sums.numpy() / n, statistics.squares.numpy() / n
        assert mean.mean() == pytest.approx(1, abs=0.01)
        assert (square - mean**2).mean() == pytest.approx(variance, rel=0.05)
        # With the same numbers in two batches or epochs, the means would vary more.
        assert mean.var() == pytest.approx(variance / n, rel=0.25)
        assert statistics.deviation.numpy() == 0


def test_deterministic_layers_draw_the_same_random_numbers_as_keras() -> None:
    def draw() -> list[Any]:
        kinds = (keras.random.uniform, keras.random.normal, keras.random.truncated_normal)
        dropped = keras.random.dropout(keras.ops.ones((50, 30)), 0.3, seed=1)
        return [dropped.numpy(), *(kind((50, 30), seed=1).numpy() for kind in kinds)]

    expected = draw()
    with deterministic_layers():
        drawn = draw()
    np.testing.assert_array_equal(drawn, expected)
    assert len({array.tobytes() for array in drawn}) == 4


class CallsPython(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return tf.ensure_shape(tf.py_function(lambda y: 2 * y, [x], tf.float32), x.shape)


class WithoutSeed(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x + tf.random.normal(x.shape[1:])


class WithGlobalSeedGenerator(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x + keras.random.normal(x.shape[1:])


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (
            lambda: keras.layers.RandomRotation(0.1, name="odd"),
            "cannot be compiled by XLA; .* section augmentation of params.yaml",
        ),
        (lambda: CallsPython(name="odd"), "cannot be compiled by XLA"),
        (lambda: WithoutSeed(name="odd"), r"draws random numbers without a seed \(Random"),
        (lambda: WithGlobalSeedGenerator(name="odd"), "uses a variable that is not the network's"),
    ],
)
def test_a_layer_that_cannot_be_trained_is_named(layer: Any, problem: str) -> None:
    network = sequential(
        keras.layers.Reshape((28, 28, 1)), keras.layers.ReLU(), layer(), keras.layers.Flatten()
    )

    def train() -> None:
        check_trainable(network)
        network.compile(sgd(), CROSS_ENTROPY, metrics=["accuracy"])
        with compilation_errors(network):
            compile_epochs(network, X, Y, 8)
            fit(network, 1)

    with pytest.raises(UserError, match=rf"\AThe layer odd {problem}.*\Z"):
        train()


def test_xla_computes_no_product_with_eigen() -> None:
    network = build_network([16, 12], 1, (28, 28), 10)
    network.compile(keras.optimizers.Adam(), CROSS_ENTROPY, metrics=["accuracy"])
    compile_epochs(network, X[:16], Y[:16], 8)
    (epoch_and_order,) = permutations(16, 3, 1, 1)
    epoch = tf.function(network.train_step, jit_compile=True)
    program = epoch.experimental_get_compiler_ir(epoch_and_order)(stage="optimized_hlo")
    # XLA uses Eigen if the first factor is transposed: contracting dimension 0. Three layers have
    # three products forward, three for gradients of weights, and two for gradients of inputs.
    contracting = re.findall(r" dot\(.*lhs_contracting_dims={(\d)}", program)
    assert contracting == ["1"] * (3 + 3 + 2)


def test_the_permutation_depends_on_seed_and_epoch_only() -> None:
    epochs, orders = zip(*permutations(IMAGES, 3, 1, 2).as_numpy_iterator(), strict=True)
    ((_, later),) = permutations(IMAGES, 3, 2, 2)
    ((_, other),) = permutations(IMAGES, 4, 1, 1)
    assert epochs == (1, 2)
    assert sorted(orders[0]) == list(range(IMAGES))
    np.testing.assert_array_equal(orders[1], later)
    assert (orders[0] != orders[1]).any()
    assert (orders[0] != other.numpy()).any()


def test_xla_adds_up_broadcast_arrays_correctly() -> None:
    """TensorFlow after 2.21 does not, with several threads: its issue 126812."""

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def total(column: Any) -> Any:
        return tf.reduce_sum(tf.broadcast_to(column, [2, 1024, 1024]))

    ones = tf.ones([1024, 1])
    assert {float(total(ones)) for _ in range(50)} == {2.0 * 1024 * 1024}
