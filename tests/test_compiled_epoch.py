"""The compiled epoch trains as Keras does batch by batch, and refuses layers that it cannot."""

import re
from typing import Any

import numpy as np
import pytest

from stages.common.errors import UserError
from stages.training.build_network import build_network
from stages.training.compiled_epoch import CompiledEpoch, one_batch, permutations
from stages.training.deterministic_layers import deterministic_layers
from stages.training.network_checks import compilation_errors
from stages.training.tensorflow_setup import keras, tf

IMAGES = 22
RANDOM = np.random.default_rng(0)
X = RANDOM.random((IMAGES, 28, 28), dtype=np.float32)
Y = RANDOM.integers(0, 10, IMAGES).astype(np.uint8)


def fit(model: CompiledEpoch, epochs: int, **options: Any) -> dict[str, list[float]]:
    """Trains and returns Keras's history: metric to its value after each epoch."""
    orders = permutations(IMAGES, 3, 1, epochs)
    history: dict[str, list[float]] = model.fit(
        orders, steps_per_epoch=1, epochs=epochs, shuffle=False, verbose=0, **options
    ).history
    return history


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
SCHEDULE = keras.optimizers.schedules.CosineDecay(0.05, 5)


@pytest.mark.parametrize(
    ("build", "optimize", "loss", "batch_size"),
    [
        (multilayer, lambda: keras.optimizers.Adam(0.01), CROSS_ENTROPY, 8),  # 6 in the last batch
        (regularized, lambda: sgd(clipnorm=0.1, weight_decay=0.1), half_cross_entropy, 11),
        (
            convolutional,
            lambda: sgd(SCHEDULE, global_clipnorm=0.5),
            keras.losses.SparseCategoricalCrossentropy(),
            11,
        ),
        (functional, lambda: keras.optimizers.Lion(0.001, use_ema=True), CROSS_ENTROPY, 11),
    ],
    ids=["multilayer", "regularized", "convolutional", "functional"],
)
def test_a_compiled_epoch_trains_as_keras_does(
    build: Any, optimize: Any, loss: Any, batch_size: int
) -> None:
    keras.utils.set_random_seed(1)
    ours = build()
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    model = CompiledEpoch(ours, X, Y, batch_size)
    model.compile(optimize(), loss)
    history = fit(model, 2, validation_data=one_batch(X, Y))

    theirs.compile(optimize(), loss, metrics=["accuracy"], run_eagerly=True)
    for epoch in range(2):
        order = np.random.default_rng([3, epoch + 1]).permutation(IMAGES)
        loss, correct = 0.0, 0.0
        for start in range(0, IMAGES, batch_size):
            batch = order[start : start + batch_size]
            theirs.reset_metrics()
            batch_loss, accuracy = theirs.train_on_batch(X[batch], Y[batch])
            loss += batch_loss * len(batch)
            correct += accuracy * len(batch)
        assert history["loss"][epoch] == pytest.approx(loss / IMAGES, rel=1e-4)
        assert history["accuracy"][epoch] == pytest.approx(correct / IMAGES)
    theirs.optimizer.finalize_variable_values(theirs.trainable_weights)  # fit calls it at the end

    assert len(ours.weights) == len(theirs.weights)
    for our_weights, their_weights in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(our_weights, their_weights, atol=1e-4)
    val_loss, accuracy = theirs.evaluate(X, Y, verbose=0)
    if not model.optimizer.use_ema:  # fit replaces weights by averages after the last validation
        assert history["val_loss"][-1] == pytest.approx(val_loss, rel=1e-3)
        assert history["val_accuracy"][-1] == pytest.approx(accuracy)


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
    model = CompiledEpoch(network, ones, Y, 8)
    model.compile(sgd(), CROSS_ENTROPY)
    fit(model, 20, validation_data=one_batch(ones, Y))

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
        (lambda: keras.layers.RandomRotation(0.1, name="odd"), "cannot be compiled by XLA"),
        (lambda: CallsPython(name="odd"), "cannot be compiled by XLA"),
        (lambda: WithoutSeed(name="odd"), r"draws random numbers without a seed \(Random"),
        (lambda: WithGlobalSeedGenerator(name="odd"), "uses a variable that is not the network's"),
    ],
)
def test_a_layer_that_cannot_be_trained_is_named(layer: Any, problem: str) -> None:
    network = sequential(
        keras.layers.Reshape((28, 28, 1)), keras.layers.ReLU(), layer(), keras.layers.Flatten()
    )
    model = CompiledEpoch(network, X, Y, 8)

    def train() -> None:
        with compilation_errors(network):
            model.compile(sgd(), CROSS_ENTROPY)
            fit(model, 1)

    with pytest.raises(UserError, match=rf"\AThe layer odd {problem}.*\Z"):
        train()


def test_xla_computes_no_product_with_eigen() -> None:
    model = CompiledEpoch(build_network([16, 12], 1, (28, 28), 10), X[:16], Y[:16], 8)
    model.compile(keras.optimizers.Adam(), CROSS_ENTROPY)
    (epoch_and_order,) = permutations(16, 3, 1, 1)
    epoch = tf.function(model.train_step, jit_compile=True)
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
