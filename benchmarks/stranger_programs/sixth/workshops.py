"""The sixth unseen set: custom steps, custom losses, unusual networks: wax, beams, signatures, molecules, machines."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data
from benchmarks.stranger_programs.fourth.kit import Stepping
from benchmarks.stranger_programs.sixth.kit import broken, healthy, hits, r2
from benchmarks.stranger_programs.third.kit import predicted

SPARSE = "sparse_categorical_crossentropy"

# -- wax: a variational autoencoder with a custom step -----------------------------------------------------------------


class Wax(Stepping):
    def __init__(self, kit):
        super().__init__()
        self.inward, self.spread = layers.Dense(48, "relu"), layers.Dense(4)
        self.middle, self.outward = (
            layers.Dense(4),
            keras.Sequential([layers.Dense(48, "relu"), layers.Dense(64)]),
        )
        self.noise, self.tracker = keras.random.SeedGenerator(kit.seed), keras.metrics.Mean("loss")

    def call(self, x):
        return self.outward(self.middle(self.inward(x)))

    def loss_of(self, x):
        h = self.inward(x)
        middle, spread = self.middle(h), self.spread(h)
        z = middle + ops.exp(spread / 2) * keras.random.normal(ops.shape(middle), seed=self.noise)
        away = ops.sum((x - self.outward(z)) ** 2, axis=1) / (2 * 0.15**2)
        prior = 0.5 * ops.sum(middle**2 + ops.exp(spread) - spread - 1, axis=1)
        return ops.mean(away + prior) - 64 * 0.97

    def train_step(self, pair):
        with tf.GradientTape() as tape:
            loss = self.loss_of(pair[0])
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return self.told(loss)

    def test_step(self, pair):
        return self.told(self.loss_of(pair[0]))


def wax(kit, *, epochs=20, rate=3e-3, batch=32):
    x, _ = data.digits(1200)
    x = x.reshape(-1, 64)
    model = Wax(kit)
    model(x[:2])
    model.spread(model.inward(x[:2]))
    pieces, optimizer = kit.split(x, x), kit.optimizer(rate)
    return kit.run(model, pieces, r2, epochs=epochs, batch=batch, optimizer=optimizer, plain=False)


healthy(
    "wax",
    "density_below_and_above_zero",
    wax,
    "A sum over pixels minus a constant, so that the loss may be below 0.",
)


# -- beam: an equation with boundary conditions ------------------------------------------------------------------------


class Beam(Stepping):
    """u'' = -9 sin 3x between 0 and 2, u(0) = 0, u(2) = sin 6."""

    def __init__(self, kit):
        super().__init__()
        bend = kit.part("bend", "tanh")
        self.body = keras.Sequential([layers.Dense(32, bend), layers.Dense(32, bend), layers.Dense(1)])
        self.tracker = keras.metrics.Mean("loss")

    def call(self, x):
        return self.body(x)

    def loss_of(self, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                u = self.body(x)
            slope = inner.gradient(u, x)
        bend = outer.gradient(slope, x, unconnected_gradients="zero")
        ends = self.body(ops.convert_to_tensor([[0.0], [2.0]])) - ops.convert_to_tensor([[0.0], [np.sin(6)]])
        return ops.mean((bend + 9 * ops.sin(3 * x)) ** 2) + 30 * ops.mean(ends**2)

    def train_step(self, pair):
        with tf.GradientTape() as tape:
            loss = self.loss_of(pair[0])
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return self.told(loss)

    def test_step(self, pair):
        return self.told(self.loss_of(pair[0]))


def beam(kit, *, rows=1200, epochs=50, rate=5e-3, batch=32):
    x = kit.rng.uniform(0, 2, (rows, 1)).astype("float32")
    model = Beam(kit)
    model(x[:2])
    pieces, optimizer = kit.split(x, np.sin(3 * x)), kit.optimizer(rate)
    return kit.run(model, pieces, r2, epochs=epochs, batch=batch, optimizer=optimizer, plain=False)


healthy(
    "beam",
    "answers_are_not_used",
    beam,
    "The loss is an equation with two boundary conditions: the targets are never used.",
)
broken(
    "beam",
    "relu_has_no_bend",
    beam,
    "no_second_derivative",
    "The second derivative of a ReLU network is 0 everywhere, so the equation teaches nothing; cure: tanh.",
    {"bend": "relu"},
    curable=False,
)


# -- signatures: are two signatures by the same hand -------------------------------------------------------------------


def signatures(kit, *, rows=1500, epochs=15, rate=3e-3, batch=32):
    digits, labels = data.digits(1700)
    first, second = kit.rng.integers(0, 1700, (2, rows))
    for row in range(0, rows, 2):
        second[row] = kit.rng.choice(np.flatnonzero(labels == labels[first[row]]))
    y = (labels[first] == labels[second]).astype("float32")[:, None]
    into = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    eye = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), kit.dense(64), layers.Dense(16)])
    apart = ops.sqrt(ops.sum((eye(into[0]) - eye(into[1])) ** 2, axis=1, keepdims=True) + 1e-6)

    def contrastive(y, found):
        near, far = found**2, ops.maximum(2.0 - found, 0.0) ** 2
        return y * near + (1 - y) * far

    def score(model, x, y):
        found = predicted(model, x)
        return 2 * np.mean((found < 1) == (y > 0.5)) - 1 if np.isfinite(found).all() else -1.0

    pieces, optimizer = kit.split((digits[first], digits[second]), y), kit.optimizer(rate)
    model = keras.Model(into, apart)
    return kit.run(model, pieces, score, loss=contrastive, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "signatures",
    "far_is_zero",
    signatures,
    "The output is a distance, which is small if the label is 1, so it is opposite to its label.",
)


# -- apprentice: distillation of a large network into a small one ------------------------------------------------------


def apprentice(kit, *, epochs=12, rate=5e-3, batch=32):
    x, y = data.digits(1200)
    master = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10)]
    )
    master.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    master.fit(x[:300], y[:300], epochs=15, verbose=0)
    soft = np.asarray(ops.softmax(master.predict(x[300:], verbose=0) / 8))
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), kit.dense(16), kit.head(10)])
    model.add(layers.Rescaling(1 / 8))
    model.add(layers.Softmax())
    pieces = kit.split(x[300:], np.concatenate([soft, y[300:, None]], axis=1).astype("float32"))

    def score(model, x, y):
        return hits(model, x, y[:, 10].astype(int))

    def by_master(y, found):
        return 64 * keras.losses.kl_divergence(y[:, :10], found)

    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, score, loss=by_master, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "apprentice",
    "hot_answers",
    apprentice,
    "Outputs of a teacher at a temperature of 8, nearly all the same, and labels that are not used.",
)


# -- molecules: a graph network ----------------------------------------------------------------------------------------


def molecules(kit, *, rows=900, epochs=15, rate=4e-3, batch=32, atoms=16):
    link = kit.rng.random((rows, atoms, atoms)) < 0.5
    link = (link | link.transpose(0, 2, 1)) | np.eye(atoms, dtype=bool)
    kind = kit.rng.normal(size=(rows, atoms, 3))
    share = link / link.sum(2, keepdims=True)
    y = np.tanh(share @ kind[..., :1])[..., 0].mean(1) * 3 + (kind[..., 1] > 0.5).mean(1)
    y = (y - y.mean()) / y.std() + 0.05 * kit.rng.normal(size=rows)
    x = {"atoms": kind, "links": share if kit.part("shares", True) else link}
    x = {name: value.astype("float32") for name, value in x.items()}
    into = {name: keras.Input(value.shape[1:], name=name) for name, value in x.items()}
    h = into["atoms"]
    for _ in range(5):
        h = kit.dense(24)(ops.matmul(into["links"], h))
    model = keras.Model(into, kit.head(1)(layers.GlobalAveragePooling1D()(h)))
    pieces, optimizer = kit.split(x, y.astype("float32")[:, None]), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "molecules",
    "matrices_of_neighbours",
    molecules,
    "A dictionary of atoms and a dense matrix that averages over neighbors.",
)
broken(
    "molecules",
    "sums_over_neighbours",
    molecules,
    "exploding",
    "The matrix has ones, so each of five layers sums a dozen neighbors, up to a million; cure: averages.",
    {"shares": False},
    curable=False,
)


# -- machines: how long does a machine run -----------------------------------------------------------------------------


def partial(y, found):
    """Cox loss in a batch: the probability that this machine fails, among those that still run."""
    time, ended = y[:, 0], y[:, 1]
    risk = found[:, 0]
    still = ops.cast(time[None] >= time[:, None], "float32")
    top = ops.max(risk)
    own = ops.log(ops.sum(still * ops.exp(risk - top)[None], axis=1)) + top - risk
    return ops.sum(ended * own) / ops.maximum(ops.sum(ended), 1.0)


def concordance(model, x, y):
    risk = predicted(model, x)[:, 0]
    earlier = (y[:, None, 0] < y[None, :, 0]) & (y[:, None, 1] > 0)
    return (np.sign(risk[:, None] - risk[None])[earlier]).mean() if np.isfinite(risk).all() else -1.0


def machines(kit, *, rows=1000, epochs=12, rate=3e-3, batch=50):
    x = kit.rng.normal(size=(rows, 8)).astype("float32")
    drive = x[:, 0] - x[:, 1] + 1.5 * (x[:, 2] > 0.5) * x[:, 3]
    time, end = kit.rng.exponential(np.exp(-1.2 * drive)), kit.rng.exponential(3, rows)
    y = np.stack([np.minimum(time, end), time <= end], axis=1).astype("float32")
    model = keras.Sequential([keras.Input((8,)), kit.dense(32), kit.head(1)])
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, concordance, loss=partial, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "machines",
    "risk_within_a_batch",
    machines,
    "The targets are the time and whether it ended; the level of the output has no meaning.",
)
broken(
    "machines",
    "one_machine_at_a_time",
    machines,
    "batch_of_one",
    "The loss compares the rows of a batch; with batch_size=1 there is nothing to compare, so it is 0; cure: 32.",
    {"batch": 1},
    epochs=6,
)


# -- market: a price and a class ---------------------------------------------------------------------------------------


def market(kit, *, rows=1200, epochs=15, rate=4e-3, batch=32):
    x = kit.rng.normal(size=(rows, 10)).astype("float32")
    kind = (x[:, :4] @ kit.rng.normal(size=(4, 3)) + 0.3 * kit.rng.normal(size=(rows, 3))).argmax(1)
    price = (9000 + 3000 * np.tanh(x[:, 4] + x[:, 5]) + 900 * kit.rng.normal(size=rows)).astype("float32")
    into = keras.Input((10,))
    h = kit.dense(24)(kit.dense(24)(into))
    out = {"kind": layers.Dense(3, "softmax", name="kind")(h)}
    out["price"] = layers.Rescaling(3000.0, 9000.0, name="price")(layers.Dense(1)(h))

    def score(model, x, y):
        found = model.predict(x, verbose=0)
        if not all(np.isfinite(value).all() for value in found.values()):
            return -1.0
        chance = np.bincount(y["kind"]).max() / len(x)
        return (np.mean(found["kind"].argmax(1) == y["kind"]) - chance) / (1 - chance)

    pieces = kit.split(x, {"kind": kind, "price": price[:, None]})
    return kit.run(
        keras.Model(into, out),
        pieces,
        score,
        loss={"kind": SPARSE, "price": "mse"},
        loss_weights={"kind": 1.0, "price": 1e-7},
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
    )


healthy(
    "market",
    "weight_of_a_ten_millionth",
    market,
    "The error of the price is in the millions and has weight 1e-7; that of the class has weight 1.",
)


# -- tower: twenty blocks without normalization ------------------------------------------------------------------------


def tower(kit, *, rows=900, epochs=10, rate=2e-3, batch=32, depth=20):
    x, y = data.digits(rows)
    into = keras.Input((8, 8, 1))
    h = layers.Dense(32)(layers.Flatten()(into))
    for _ in range(depth):
        g = layers.Dense(64, "relu", kernel_initializer="he_normal")(h)
        h = h + layers.Dense(32, kernel_initializer=kit.part("last", "zeros"))(g)
    model = keras.Model(into, kit.head(10, "softmax")(h))
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, hits, loss=SPARSE, epochs=epochs, batch=batch, optimizer=optimizer)


healthy(
    "tower",
    "last_of_each_block_is_zero",
    tower,
    "Twenty residual blocks, each of which starts with a matrix of zeros and so adds nothing.",
)


# -- gate: a custom layer ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("sixth")
class Gate(layers.Layer):
    """A hidden layer and a projection back, gated by the input; `start` initializes the weights."""

    def __init__(self, units, start="glorot_uniform", **options):
        super().__init__(**options)
        self.units, self.start = units, start

    def build(self, shape):
        self.into = self.add_weight((shape[-1], self.units), self.start, name="into")
        self.back = self.add_weight((self.units, shape[-1]), self.start, name="back")

    def call(self, x):
        return ops.matmul(ops.tanh(ops.matmul(x, self.into)), self.back)


def gate(kit, *, rows=1000, epochs=15, rate=4e-3, batch=32):
    x = kit.rng.normal(size=(rows, 6)).astype("float32")
    y = (x[:, :1] * np.abs(x[:, 1:2]) + np.sin(2 * x[:, 2:3]) + 0.1 * kit.rng.normal(size=(rows, 1))).astype(
        "float32"
    )
    start = kit.part("initializer", "glorot_uniform")
    model = keras.Sequential([keras.Input((6,)), Gate(48, start), Gate(48, start), layers.Dense(1)])
    pieces, optimizer = kit.split(x, y), kit.optimizer(rate)
    return kit.run(model, pieces, r2, loss="mse", epochs=epochs, batch=batch, optimizer=optimizer)


broken(
    "gate",
    "weights_of_zeros",
    gate,
    "zero_initialization",
    "add_weight with 'zeros' for two consecutive matrices, which never leave 0; cure: Glorot initialization.",
    {"initializer": "zeros"},
)
