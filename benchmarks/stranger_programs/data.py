"""Small data sets: those of scikit-learn, and some made of random numbers."""

import functools

import numpy as np
from sklearn import datasets


@functools.cache
def bundled(name):
    found = getattr(datasets, f"load_{name}")()
    return found.data.astype("float32"), found.target


def standardized(x):
    return ((x - x.mean(0)) / (x.std(0) + 1e-6)).astype("float32")


def digits(count=1000):
    x, y = bundled("digits")
    return (x[:count].reshape(-1, 8, 8, 1) / 16).astype("float32"), y[:count].astype("int32")


def blobs(rng, count=600, classes=4, columns=10, spread=1.0):
    middle = rng.normal(size=(classes, columns)) * 1.2
    y = rng.integers(0, classes, count)
    return (middle[y] + spread * rng.normal(size=(count, columns))).astype("float32"), y.astype("int32")


def rings(rng, count=600, noise=0.08):
    x, y = datasets.make_circles(count, noise=noise, factor=0.45, random_state=int(rng.integers(1000)))
    return x.astype("float32"), y.astype("int32")


def moons(rng, count=600, noise=0.15):
    x, y = datasets.make_moons(count, noise=noise, random_state=int(rng.integers(1000)))
    return x.astype("float32"), y.astype("int32")


def friedman(rng, count=700, noise=0.5):
    """Friedman's regression problem, with targets of about 14 +- 5."""
    x, y = datasets.make_friedman1(count, noise=noise, random_state=int(rng.integers(1000)))
    return (2 * x - 1).astype("float32"), y.astype("float32")


def gratings(rng, count=500, classes=3, size=12, noise=0.4):
    y = rng.integers(0, classes, count)
    angle = np.pi * y / classes + 0.1 * rng.normal(size=count)
    phase = rng.uniform(0, 2 * np.pi, count)
    row, column = np.mgrid[:size, :size]
    along = np.cos(angle)[:, None, None] * column + np.sin(angle)[:, None, None] * row
    x = np.sin(1.6 * along + phase[:, None, None]) + noise * rng.normal(size=(count, size, size))
    return x[..., None].astype("float32"), y.astype("int32")


def shapes(rng, count=600, size=16):
    """A square, a diamond or a cross somewhere in a picture of values 0..1; also the mask of its pixels."""
    y = rng.integers(0, 3, count)
    row, column = np.mgrid[:size, :size]
    middle = rng.integers(5, size - 5, (count, 2))
    down = np.abs(row[None] - middle[:, 0, None, None])
    across = np.abs(column[None] - middle[:, 1, None, None])
    square = np.maximum(down, across) <= 3
    disc = down + across <= 3
    cross = (np.minimum(down, across) == 0) & (np.maximum(down, across) <= 4)
    mask = np.choose(y[:, None, None], [square, disc, cross])
    x = np.clip(0.25 + 0.5 * mask + 0.1 * rng.normal(size=mask.shape), 0, 1)
    return x[..., None].astype("float32"), y.astype("int32"), mask[..., None].astype("float32")


def waves(rng, count=500, classes=3, length=24, noise=0.3):
    y = rng.integers(0, classes, count)
    period = np.array([5.0, 8.0, 13.0, 20.0])[y]
    time = np.arange(length)
    phase = rng.uniform(0, 2 * np.pi, count)
    x = np.sin(2 * np.pi * time / period[:, None] + phase[:, None]) + noise * rng.normal(size=(count, length))
    return x[..., None].astype("float32"), y.astype("int32")


def sentences(rng, count=800, vocabulary=500, length=16, opinions=30, classes=2):
    """Token ids from 1; the class is the group of opinion words that a sentence uses most. 0 is padding."""
    ids = rng.integers(1 + classes * opinions, vocabulary, (count, length))
    y = rng.integers(0, classes, count)
    for i, label in enumerate(y):
        at = rng.permutation(length)[:4]
        ids[i, at[:3]] = 1 + label * opinions + rng.integers(0, opinions, 3)
        ids[i, at[3]] = 1 + ((label + 1) % classes) * opinions + rng.integers(0, opinions)
        if rng.random() < 0.3:
            ids[i, length - int(rng.integers(1, 5)) :] = 0
    return ids.astype("int32"), y.astype("int32")


def words(rng, count=700, vocabulary=300, classes=4, length=30):
    """Word counts of texts: mostly zeros; each topic has its own distribution of words."""
    y = rng.integers(0, classes, count)
    fixed = np.random.default_rng(7)  # the same topics for every seed
    usual = fixed.dirichlet(np.full(vocabulary, 0.3))
    topics = fixed.dirichlet(np.full(vocabulary, 0.05), classes)
    x = np.stack([rng.multinomial(length, 0.6 * usual + 0.4 * topics[label]) for label in y])
    return x.astype("float32"), y.astype("int32")


def customers(rng, count=900):
    """Customers of a shop: skewed amounts of money, counts, an age and a flag; the label says who buys."""
    income = rng.lognormal(10, 0.8, count)
    visits = rng.poisson(4, count)
    age = rng.uniform(18, 80, count)
    member = rng.random(count) < 0.3
    spent = income * rng.lognormal(-4, 0.7, count)
    score = 1.5 * np.log(income / 22000) + 0.35 * (visits - 4) - 0.03 * (age - 48) + 1.2 * member
    y = (score + 0.4 * rng.normal(size=count) > 0.3).astype("int32")
    return np.stack([income, visits, age, member, spent], 1).astype("float32"), y


def forecast(rng, count=700, past=16):
    """The next value of an oscillation with a slow drift."""
    time = np.arange(count + past)
    curve = np.sin(time / 4) + 0.5 * np.sin(time / 9 + 1) + 0.05 * rng.normal(size=len(time))
    x = np.stack([curve[i : i + past] for i in range(count)])
    return x[..., None].astype("float32"), curve[past:].astype("float32")
