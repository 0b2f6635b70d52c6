"""Faults that several families share: each replaces a part of the kit, by its name."""

import numpy as np

NAN = {"arrange": lambda train, validation, rng: ((spoil(train[0], rng), train[1]), validation)}


def spoil(x, rng, share=0.05):
    """NaN in a few examples."""
    x = np.array(x, "float32")
    rows = rng.permutation(len(x))[: max(2, int(share * len(x)))]
    x[rows, ..., -1] = np.nan
    return x


def shuffled(train, validation, rng):
    """The labels were shuffled without the inputs, in training and validation."""
    return (train[0], train[1][rng.permutation(len(train[1]))]), (
        validation[0],
        validation[1][rng.permutation(len(validation[1]))],
    )


def shuffled_with_nan(train, validation, rng):
    train, validation = shuffled(train, validation, rng)
    return (spoil(train[0], rng), train[1]), validation


def in_order(train, validation, rng):
    """Training files that are read class by class."""
    order = np.argsort(np.asarray(train[1]).reshape(len(train[1]), -1)[:, 0], kind="stable")
    return (train[0][order], train[1][order]), validation


def split_by_class(train, validation, rng):
    """Validation is the last part of files that were read class by class, so it has only the last class."""
    x, y = np.concatenate([train[0], validation[0]]), np.concatenate([train[1], validation[1]])
    label = y if y.ndim == 1 else y.argmax(-1)
    order = np.argsort(label, kind="stable")
    cut = int(np.sum(label < label.max()))
    return (x[order[:cut]], y[order[:cut]]), (x[order[cut:]], y[order[cut:]])


def lacking(train, validation, rng):
    """The last class was collected late, so the training data have no example of it."""
    y = train[1] if np.ndim(train[1]) == 1 else np.argmax(train[1], -1)
    kept = y != y.max()
    return (train[0][kept], train[1][kept]), validation


def leaking(train, validation, rng):
    """Split after oversampling: all validation rows are also in the training data."""
    rows = rng.permutation(len(train[0]))[: len(validation[0])]
    return train, (train[0][rows], train[1][rows])


def validation_times(factor, shift=0.0):
    """The training data are scaled, but the validation data were forgotten."""
    return lambda train, validation, rng: (
        train,
        (validation[0] * np.float32(factor) + np.float32(shift), validation[1]),
    )


def constant_inputs(train, validation, rng):
    """A loader that always returns its first example."""
    return (np.repeat(train[0][:1], len(train[0]), 0), train[1]), validation


def constant_labels(train, validation, rng):
    """Text was compared with a number, so every label is 0."""
    return (train[0], np.zeros_like(train[1])), (validation[0], np.zeros_like(validation[1]))


def zero(model):
    for weight in model.trainable_weights:
        weight.assign(np.zeros(weight.shape))


def freeze(model):
    """Freeze all but the head, as a tutorial says for a pretrained backbone; but this one was never trained."""
    for layer in model.layers:
        layer.trainable = False
