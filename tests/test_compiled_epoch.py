"""The compiled epoch does what Keras does a minibatch at a time."""

import re
from typing import Any

import numpy as np
import pytest

from stages.edges.bad_input import BadInput
from stages.training.compiled_epoch import CompiledEpoch, one_batch, permutations
from stages.training.layers import layers_for_xla
from stages.training.network import build_network
from stages.training.repeatable import keras, tf
from stages.training.unsupported import explaining_compilation

IMAGES = 22
RANDOM = np.random.default_rng(0)
X = RANDOM.random((IMAGES, 28, 28), dtype=np.float32)
Y = RANDOM.integers(0, 10, IMAGES).astype(np.uint8)


def fit(model: CompiledEpoch, epochs: int, **options: Any) -> dict[str, list[float]]:
    """Trains for so many epochs; what Keras reports of each."""
    orders = permutations(IMAGES, 3, 1, epochs)
    history: dict[str, list[float]] = model.fit(
        orders, steps_per_epoch=1, epochs=epochs, shuffle=False, verbose=0, **options
    ).history
    return history


@keras.saving.register_keras_serializable()
class Halves(keras.layers.Layer):  # type: ignore[misc]
    """A layer of somebody's own: a dense layer inside of it, a loss, and a count that it keeps."""

    def build(self, shape: Any) -> None:
        self.dense = keras.layers.Dense(shape[-1] // 2, activation="relu")
        self.dense.build(shape)
        self.seen = self.add_weight(name="seen", initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.dense(x)
        self.add_loss(1e-2 * keras.ops.mean(y))
        if training:
            self.seen.assign_add(keras.ops.shape(x)[0])
        return y


def sequential(*layers: Any) -> Any:
    return keras.Sequential(
        [keras.Input((28, 28)), *layers, keras.layers.Dense(10, activation="softmax")]
    )


def multilayer(**options: Any) -> Any:
    dense = [keras.layers.Dense(units, activation="relu", **options) for units in (16, 12)]
    return sequential(keras.layers.Flatten(), *dense)


def restrained() -> Any:
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


def halfway(labels: Any, probabilities: Any) -> Any:
    """A loss of somebody's own, for each image."""
    return 0.5 * keras.losses.sparse_categorical_crossentropy(labels, probabilities)


CROSS_ENTROPY = "sparse_categorical_crossentropy"
SCHEDULE = keras.optimizers.schedules.CosineDecay(0.05, 5)


@pytest.mark.parametrize(
    ("build", "optimize", "loss", "batch_size"),
    [
        (multilayer, lambda: keras.optimizers.Adam(0.01), CROSS_ENTROPY, 8),  # 6 in the last batch
        (restrained, lambda: sgd(clipnorm=0.1, weight_decay=0.1), halfway, 11),
        (
            convolutional,
            lambda: sgd(SCHEDULE, global_clipnorm=0.5),
            keras.losses.SparseCategoricalCrossentropy(),
            11,
        ),
        (functional, lambda: keras.optimizers.Lion(0.001, use_ema=True), CROSS_ENTROPY, 11),
    ],
    ids=["multilayer", "restrained", "convolutional", "functional"],
)
def test_it_trains_as_keras_does(build: Any, optimize: Any, loss: Any, batch_size: int) -> None:
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
        losses, right = 0.0, 0.0
        for start in range(0, IMAGES, batch_size):
            places = order[start : start + batch_size]
            theirs.reset_metrics()
            batch_loss, accuracy = theirs.train_on_batch(X[places], Y[places])
            losses += batch_loss * len(places)
            right += accuracy * len(places)
        assert history["loss"][epoch] == pytest.approx(losses / IMAGES, rel=1e-4)
        assert history["accuracy"][epoch] == pytest.approx(right / IMAGES)
    theirs.optimizer.finalize_variable_values(theirs.trainable_weights)  # as fit does in the end

    assert len(ours.weights) == len(theirs.weights)
    for mine, yours in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-4)
    val_loss, accuracy = theirs.evaluate(X, Y, verbose=0)
    if not model.optimizer.use_ema:  # the last validation was before the averages took their place
        assert history["val_loss"][-1] == pytest.approx(val_loss, rel=1e-3)
        assert history["val_accuracy"][-1] == pytest.approx(accuracy)


class Tally(keras.layers.Layer):  # type: ignore[misc]
    """Keeps, for each of its inputs, how often it was there in training, its sum and its squares'.

    And by how much it was other than 1 out of training.
    """

    def build(self, shape: Any) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.sums = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)
        self.squares = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)
        self.otherwise = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.count.assign_add(keras.ops.shape(x)[0])
            self.sums.assign_add(keras.ops.sum(x, axis=0))
            self.squares.assign_add(keras.ops.sum(x**2, axis=0))
        else:
            self.otherwise.assign_add(keras.ops.sum(abs(x - 1)))
        return x


def test_random_layers_draw_anew_for_every_minibatch_of_a_training_alone() -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((28, 28))
    flat = keras.layers.Flatten()(inputs)
    after_dropout, after_noise = Tally(), Tally()
    dropped = after_dropout(keras.layers.Dropout(0.3)(flat))
    noisy = after_noise(keras.layers.GaussianNoise(0.5)(flat))
    both = keras.layers.Add()([dropped, noisy])
    network = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(both))
    ones = np.ones_like(X)
    model = CompiledEpoch(network, ones, Y, 8)
    model.compile(sgd(), CROSS_ENTROPY)
    fit(model, 20, validation_data=one_batch(ones, Y))

    for tally, variance in ((after_dropout, 0.3 / 0.7), (after_noise, 0.5**2)):
        n = float(tally.count.numpy())
        assert n == 20 * IMAGES
        mean, square = tally.sums.numpy() / n, tally.squares.numpy() / n
        assert mean.mean() == pytest.approx(1, abs=0.01)
        assert (square - mean**2).mean() == pytest.approx(variance, rel=0.05)
        # Were two minibatches or epochs given the same, the means would vary by more.
        assert mean.var() == pytest.approx(variance / n, rel=0.25)
        assert tally.otherwise.numpy() == 0


def test_what_is_drawn_in_a_compiled_epoch_is_what_is_drawn_elsewhere() -> None:
    def draw() -> list[Any]:
        kinds = (keras.random.uniform, keras.random.normal, keras.random.truncated_normal)
        dropped = keras.random.dropout(keras.ops.ones((50, 30)), 0.3, seed=1)
        return [dropped.numpy(), *(kind((50, 30), seed=1).numpy() for kind in kinds)]

    elsewhere = draw()
    with layers_for_xla():
        inside = draw()
    np.testing.assert_array_equal(inside, elsewhere)
    assert len({array.tobytes() for array in inside}) == 4


class InPython(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return tf.ensure_shape(tf.py_function(lambda y: 2 * y, [x], tf.float32), x.shape)


class ByChance(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x + tf.random.normal(x.shape[1:])


class Forgetful(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x + keras.random.normal(x.shape[1:])


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (lambda: keras.layers.RandomRotation(0.1, name="odd"), "cannot be compiled by XLA"),
        (lambda: InPython(name="odd"), "cannot be compiled by XLA"),
        (lambda: ByChance(name="odd"), r"draws random numbers that no seed decides \(Random"),
        (lambda: Forgetful(name="odd"), "uses a variable that is not the network's"),
    ],
)
def test_a_layer_that_cannot_be_trained_is_named(layer: Any, problem: str) -> None:
    network = sequential(
        keras.layers.Reshape((28, 28, 1)), keras.layers.ReLU(), layer(), keras.layers.Flatten()
    )
    model = CompiledEpoch(network, X, Y, 8)

    def train() -> None:
        with explaining_compilation(network):
            model.compile(sgd(), CROSS_ENTROPY)
            fit(model, 1)

    with pytest.raises(BadInput, match=rf"\AThe layer odd {problem}.*\Z"):
        train()


def test_no_product_is_left_to_eigen() -> None:
    model = CompiledEpoch(build_network([16, 12], seed=1), X[:16], Y[:16], 8)
    model.compile(keras.optimizers.Adam(), CROSS_ENTROPY)
    (epoch_and_order,) = permutations(16, 3, 1, 1)
    epoch = tf.function(model.train_step, jit_compile=True)
    program = epoch.experimental_get_compiler_ir(epoch_and_order)(stage="optimized_hlo")
    # Of three layers: forward, the gradients of the weights, and two of the input.
    left = re.findall(r" dot\(.*lhs_contracting_dims={(\d)}", program)
    assert left == ["1"] * (3 + 3 + 2)


def test_an_epochs_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    epochs, orders = zip(*permutations(IMAGES, 3, 1, 2).as_numpy_iterator(), strict=True)
    ((_, later),) = permutations(IMAGES, 3, 2, 2)
    ((_, other),) = permutations(IMAGES, 4, 1, 1)
    assert epochs == (1, 2)
    assert sorted(orders[0]) == list(range(IMAGES))
    np.testing.assert_array_equal(orders[1], later)
    assert (orders[0] != orders[1]).any()
    assert (orders[0] != other.numpy()).any()


def test_sums_of_broadcasts_are_right() -> None:
    """Builds of TensorFlow after 2.21 add them up wrongly on several threads (its issue 126812)."""

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def total(column: Any) -> Any:
        return tf.reduce_sum(tf.broadcast_to(column, [2, 1024, 1024]))

    ones = tf.ones([1024, 1])
    assert {float(total(ones)) for _ in range(50)} == {2.0 * 1024 * 1024}
