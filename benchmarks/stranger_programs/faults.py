"""Faults that several families share: what is exchanged, by the name of the part."""

import numpy as np

NAN = {"arrange": lambda train, validation, rng: ((spoil(train[0], rng), train[1]), validation)}


def spoil(x, rng, share=0.05):
    """NaN in a few examples."""
    x = np.array(x, "float32")
    rows = rng.permutation(len(x))[: max(2, int(share * len(x)))]
    x[rows, ..., -1] = np.nan
    return x


def shuffled(train, validation, rng):
    """The labels lost their order on the way, in both parts."""
    return (train[0], train[1][rng.permutation(len(train[1]))]), (
        validation[0],
        validation[1][rng.permutation(len(validation[1]))],
    )


def shuffled_with_nan(train, validation, rng):
    train, validation = shuffled(train, validation, rng)
    return (spoil(train[0], rng), train[1]), validation


def in_order(train, validation, rng):
    """Files read class by class."""
    order = np.argsort(np.asarray(train[1]).reshape(len(train[1]), -1)[:, 0], kind="stable")
    return (train[0][order], train[1][order]), validation


def split_by_class(train, validation, rng):
    """The last part of files that were read class by class, which is the last class."""
    x, y = np.concatenate([train[0], validation[0]]), np.concatenate([train[1], validation[1]])
    label = y if y.ndim == 1 else y.argmax(-1)
    order = np.argsort(label, kind="stable")
    cut = int(np.sum(label < label.max()))
    return (x[order[:cut]], y[order[:cut]]), (x[order[cut:]], y[order[cut:]])


def lacking(train, validation, rng):
    """The last class was collected late: the training part has none of it."""
    y = train[1] if np.ndim(train[1]) == 1 else np.argmax(train[1], -1)
    kept = y != y.max()
    return (train[0][kept], train[1][kept]), validation


def leaking(train, validation, rng):
    """Split after oversampling: validation consists of rows that training has too."""
    rows = rng.permutation(len(train[0]))[: len(validation[0])]
    return train, (train[0][rows], train[1][rows])


def validation_times(factor, shift=0.0):
    """The training part is scaled, the validation part was forgotten."""
    return lambda train, validation, rng: (
        train,
        (validation[0] * np.float32(factor) + np.float32(shift), validation[1]),
    )


def constant_inputs(train, validation, rng):
    """A loader that returns its first example again and again."""
    return (np.repeat(train[0][:1], len(train[0]), 0), train[1]), validation


def constant_labels(train, validation, rng):
    """A comparison of text with a number: every label is 0."""
    return (train[0], np.zeros_like(train[1])), (validation[0], np.zeros_like(validation[1]))


def zero(model):
    for weight in model.trainable_weights:
        weight.assign(np.zeros(weight.shape))


def freeze(model):
    """Everything but the head, which the tutorial says to freeze for a trained backbone; this one is not trained."""
    for layer in model.layers:
        layer.trainable = False
