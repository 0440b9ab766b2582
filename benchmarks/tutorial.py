"""The tutorial's script, except that it reads data/raw instead of downloading MNIST."""

from pathlib import Path

import keras
import numpy as np

RAW = Path("data/raw")

x_train, y_train, x_test, y_test = (
    np.load(RAW / f"{name}.npy") for name in ("x_train", "y_train", "x_test", "y_test")
)
x_train, x_test = x_train / 255.0, x_test / 255.0

model = keras.Sequential(
    [
        keras.layers.Flatten(input_shape=(28, 28)),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(256, activation="relu"),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=10, validation_data=(x_test, y_test), verbose=2)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"Baseline Error: {100 * (1 - accuracy):.2f}%")
model.save(RAW / "../tutorial.h5")
