"""Runs of `recipes.train` on the digits that take a second."""

import keras
import tensorflow as tf

import recipes


def small_model(classes=10, activation="softmax", compiled=False, dropout=0.1):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 128, offset=-1),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=activation),
        ]
    )
    if compiled:
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def quietly(model, *data, **options):
    """`recipes.train` without what a test does not look at."""
    off = {"augment": None, "monitor": False, "preflight": False, "verbose": 0}
    return recipes.train(model, *data, **{**off, **options})


def as_dataset(arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)
