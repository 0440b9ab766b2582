"""The probabilities of images."""

import numpy as np

from stages.training.network import build_network
from stages.training.prediction import BATCH, predictor
from stages.training.repeatable import keras

IMAGES = np.random.default_rng(0).random((2 * BATCH + 7, 28, 28), dtype=np.float32)


def test_they_are_those_of_keras_for_any_number_of_images() -> None:
    network = build_network([512, 64], seed=1)
    predict = predictor(network)
    whole = predict(IMAGES)
    assert whole.shape == (len(IMAGES), 10)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, network.predict(IMAGES, verbose=0), rtol=1e-4)
    for n in (1, 7, BATCH, BATCH + 1):
        np.testing.assert_array_equal(predict(IMAGES[-n:]), whole[-n:])


def test_layers_of_training_do_nothing() -> None:
    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dropout(0.5)]
    network = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
    predict = predictor(network)
    np.testing.assert_array_equal(predict(IMAGES), predict(IMAGES))
