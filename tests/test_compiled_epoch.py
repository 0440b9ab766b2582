"""The compiled epoch does what Keras does a minibatch at a time."""

import re
from typing import Any

import numpy as np
import pytest

from stages.training.compiled_epoch import CompiledEpoch, one_batch, permutations
from stages.training.network import build_network
from stages.training.repeatable import keras, tf

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


def test_the_tutorials_network_has_567434_parameters() -> None:
    assert build_network([512, 256, 128], seed=0).count_params() == 567_434


@pytest.mark.parametrize("batch_size", [1, 8, 11, IMAGES])  # 8: the last batch has 6 images
def test_it_trains_as_keras_does(batch_size: int) -> None:
    ours, theirs = build_network([16, 12], seed=1), build_network([16, 12], seed=1)
    model = CompiledEpoch(ours, X, Y, batch_size)
    model.compile(keras.optimizers.Adam(0.01))
    history = fit(model, 2, validation_data=one_batch(X, Y))

    theirs.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    for epoch in range(2):
        order = np.random.default_rng([3, epoch + 1]).permutation(IMAGES)
        losses, hits = 0.0, 0.0
        for start in range(0, IMAGES, batch_size):
            places = order[start : start + batch_size]
            theirs.reset_metrics()
            loss, accuracy = theirs.train_on_batch(X[places], Y[places])
            losses += loss * len(places)
            hits += accuracy * len(places)
        assert history["loss"][epoch] == pytest.approx(losses / IMAGES, rel=1e-4)
        assert history["accuracy"][epoch] == pytest.approx(hits / IMAGES)

    for mine, yours in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-4)
    loss, accuracy = theirs.evaluate(X, Y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-3)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy)


def test_no_product_is_left_to_eigen() -> None:
    model = CompiledEpoch(build_network([16, 12], seed=1), X, Y, 8)
    model.compile(keras.optimizers.Adam())
    (order,) = permutations(IMAGES, 3, 1, 1)
    epoch = tf.function(model.train_step, jit_compile=True)
    program = epoch.experimental_get_compiler_ir(order)(stage="optimized_hlo")
    # Of three layers, forward, the gradients of weights and of what went in, for two batch sizes.
    left = re.findall(r" dot\(.*lhs_contracting_dims={(\d)}", program)
    assert left == ["1"] * 2 * (3 + 3 + 2)


def test_a_shorter_training_is_the_beginning_of_a_longer_one() -> None:
    histories = []
    for epochs in (1, 3):
        model = CompiledEpoch(build_network([16], seed=1), X, Y, 8)
        model.compile(keras.optimizers.Adam())
        histories.append(fit(model, epochs))
    for name in ("loss", "accuracy"):
        assert histories[0][name] == histories[1][name][:1]


def test_an_epochs_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    orders = [order.numpy() for order in permutations(IMAGES, 3, 1, 2)]
    (later,) = permutations(IMAGES, 3, 2, 2)
    (other,) = permutations(IMAGES, 4, 1, 1)
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
