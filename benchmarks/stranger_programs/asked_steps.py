"""The second unseen set, programs with a custom loss or a custom training step, and one that trains twice."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data, faults
from benchmarks.stranger_programs.kit import Kit, Run, broken, healthy

# -- an equation as the loss -------------------------------------------------------------------------------------------


class Oscillation(keras.Model):
    """u(0) = 0, u'(0) = 1, u'' = -u: the sine, learned only from the equation."""

    def __init__(self, kit, **options):
        super().__init__(**options)
        self.net = keras.Sequential(
            [keras.Input((1,)), kit.dense(24, "tanh"), kit.dense(24, "tanh"), kit.head(1)]
        )
        self.error = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.error]

    def call(self, inputs):
        return self.net(inputs)

    def train_step(self, time):
        start = tf.zeros((1, 1))
        with tf.GradientTape() as tape:
            with tf.GradientTape() as second:
                second.watch(time)
                with tf.GradientTape() as first:
                    first.watch(time)
                    u = self.net(time)
                speed = first.gradient(u, time)
            push = second.gradient(speed, time)
            with tf.GradientTape() as first:
                first.watch(start)
                begin = self.net(start)
            slope = first.gradient(begin, start)
            loss = tf.reduce_mean((push + u) ** 2)
            loss += 5 * tf.reduce_mean(begin**2) + 5 * tf.reduce_mean((slope - 1) ** 2)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.error.update_state(loss)
        return {"loss": self.error.result()}


def equation(kit: Kit, *, end=3.0, epochs=60) -> Run:
    model = Oscillation(kit)
    model.compile(optimizer=kit.optimizer(rate=0.01))
    model(np.zeros((1, 1), "float32"))
    time = kit.rng.uniform(0, end, (400, 1)).astype("float32")
    grid = np.linspace(0, end, 100, dtype="float32")[:, None]

    def score(model):
        guess = np.asarray(model(grid))
        return 1 - np.mean((guess - np.sin(grid)) ** 2) / np.var(np.sin(grid))

    pipeline = tf.data.Dataset.from_tensor_slices(time).shuffle(400, seed=kit.seed).batch(50)
    return Run(model, pipeline, None, kit.get("epochs", epochs), score, preflight=False, doctor_data=False)


healthy("equation", "to_three", equation)
healthy("equation", "to_two", equation, end=2.0, epochs=50)
broken("equation", "rate", equation, "rate too high", {"rate": 5.0})
broken("equation", "zeros", equation, "all weights zero", {"initializer": "zeros"})
broken("equation", "rate_low", equation, "rate too low", {"rate": 1e-7})


# -- a policy from rewards ---------------------------------------------------------------------------------------------


class Policy(keras.Model):
    """REINFORCE on one decision: sample an action, and weight its log-probability by the reward."""

    def __init__(self, kit, actions, **options):
        super().__init__(**options)
        self.net = keras.Sequential([keras.Input((6,)), kit.dense(32), kit.head(actions)])
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "reward")]
        self.entropy = kit.get("entropy", 0.01)

    @property
    def metrics(self):
        return self.trackers

    def call(self, inputs):
        return self.net(inputs)

    def train_step(self, batch):
        state, best = batch
        with tf.GradientTape() as tape:
            logits = self.net(state)
            action = tf.random.categorical(logits, 1)[:, 0]
            reward = tf.cast(action == tf.cast(best, "int64"), "float32")
            chosen = -tf.nn.sparse_softmax_cross_entropy_with_logits(action, logits)
            spread = -tf.reduce_sum(tf.nn.softmax(logits) * tf.nn.log_softmax(logits), axis=1)
            loss = -tf.reduce_mean((reward - tf.reduce_mean(reward)) * chosen + self.entropy * spread)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        for tracker, value in zip(self.trackers, (loss, reward), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def policy(kit: Kit, *, actions=3, epochs=30) -> Run:
    x, y = data.blobs(kit.rng, 900, classes=actions, columns=6)
    model = Policy(kit, actions)
    model.compile(optimizer=kit.optimizer(rate=5e-3))
    run = kit.run(model, x, y, "sparse", epochs=epochs, preflight=False, doctor_data=False)
    run.validation = None
    kit.get("weights", lambda model: None)(model.net)
    model(x[:2])
    return run


healthy("policy", "three_actions", policy)
healthy("policy", "four_actions", policy, actions=4, epochs=40)
broken("policy", "rate", policy, "rate too high", {"rate": 30.0})
broken("policy", "zeros", policy, "all weights zero", {"initializer": "zeros"})
broken("policy", "frozen", policy, "layers frozen", {"weights": faults.freeze})


# -- a density as the output -------------------------------------------------------------------------------------------


def density(kit: Kit, *, parts=1, epochs=40) -> Run:
    """Mean and standard deviation of one or two Gaussians for each input, trained by likelihood."""
    x = kit.rng.uniform(-2, 2, (900, 1)).astype("float32")
    y = np.sin(2 * x[:, 0]) + (0.05 + 0.15 * np.abs(x[:, 0])) * kit.rng.normal(size=900)
    if parts == 2:
        y += 2.5 * (kit.rng.random(900) < 0.5)
    model = keras.Sequential(
        [keras.Input((1,)), kit.dense(32, "tanh"), kit.dense(32, "tanh"), kit.head(3 * parts)]
    )
    bare = kit.get("bare", False)

    def surprise(true, guess):
        mean, spread, share = ops.split(guess, 3, axis=-1)
        spread = spread if bare else ops.softplus(spread) + 1e-3
        away = (ops.reshape(true, (-1, 1)) - mean) / spread
        return -ops.logsumexp(ops.log_softmax(share) - ops.log(spread) - 0.5 * away**2, axis=-1)

    kit.compile(model, surprise, optimizer=kit.optimizer(rate=5e-3))

    def score(model, x, y):
        """The gain in likelihood over one Gaussian for all inputs, as a share of the possible gain."""
        got = float(
            np.mean(surprise(y.astype("float32"), ops.convert_to_tensor(model.predict(x, verbose=0))))
        )
        one = np.log(y.std()) + 0.5
        return (one - got) / (one - np.mean(np.log(0.05 + 0.15 * np.abs(x))) - 0.5)

    return kit.run(model, x, y.astype("float32"), score, epochs=epochs)


healthy("density", "one_bell", density)
healthy("density", "two_bells", density, parts=2, epochs=50)
broken("density", "logarithm_of_below_zero", density, "NaN from a layer", {"bare": True})
broken("density", "rate", density, "rate too high", {"rate": 10.0})
broken("density", "shuffled", density, "labels shuffled", {"arrange": faults.shuffled})


# -- learning to rank --------------------------------------------------------------------------------------------------


def ranking(kit: Kit, *, loss="logistic", epochs=20) -> Run:
    """Scores whose order within the batch should be that of the relevance, 0 to 4."""
    x = kit.rng.normal(size=(900, 8)).astype("float32")
    pull = x[:, 0] + np.maximum(x[:, 1], 0) - 0.5 * x[:, 2] * x[:, 3]
    y = np.digitize(pull, np.quantile(pull, [0.2, 0.4, 0.6, 0.8])).astype("float32")
    model = keras.Sequential([keras.Input((8,)), kit.dense(32), kit.dense(32), kit.head(1)])

    def pairs(true, guess):
        true, guess = ops.reshape(true, (-1,)), ops.reshape(guess, (-1,))
        above = ops.cast(true[:, None] > true[None, :], "float32")
        gap = guess[:, None] - guess[None, :]
        miss = ops.softplus(-gap) if loss == "logistic" else ops.relu(1 - gap)
        return ops.sum(above * miss, axis=1) / (ops.sum(above, axis=1) + 1e-6)

    kit.compile(model, pairs, optimizer=kit.optimizer(rate=5e-3))

    def score(model, x, y):
        """Kendall's tau: the share of pairs in the right order, minus that of pairs in the wrong order."""
        guess = model.predict(x, verbose=0)[:, 0]
        above = y[:, None] > y[None, :]
        gap = guess[:, None] - guess[None, :]
        return np.mean(np.sign(gap[above])) if np.isfinite(guess).all() else -1.0

    return kit.run(model, x, y, score, epochs=epochs)


healthy("ranking", "logistic", ranking)
healthy("ranking", "hinge", ranking, loss="hinge")
broken("ranking", "rate_low", ranking, "rate too low", {"rate": 1e-8})
broken("ranking", "zeros", ranking, "all weights zero", {"initializer": "zeros"})
broken("ranking", "shuffled", ranking, "labels shuffled", {"arrange": faults.shuffled})
broken("ranking", "inputs_in_cents", ranking, "inputs unscaled", {"inputs": lambda x: 1e6 + 1e5 * x})


# -- fine-tuning -------------------------------------------------------------------------------------------------------


def fine_tuning(kit: Kit, *, what="whole", epochs=8) -> Run:
    """A network trained on ten digits is trained further, to tell whether a digit is even."""
    x, y = data.digits(1400)
    body = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(12, 3, activation="relu"), layers.Flatten()]
    )
    body.add(layers.Dense(32, activation="relu"))
    before = keras.Sequential([body, layers.Dense(10, activation="softmax")])
    before.compile("adam", "sparse_categorical_crossentropy")
    before.fit(x[:700], y[:700], epochs=8, verbose=0)
    body.trainable = what == "whole"
    head = kit.head(1, "sigmoid")
    model = keras.Sequential([keras.Input((8, 8, 1)), body, head])
    rate = 5e-4 if what == "whole" else 5e-3
    kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=rate), metrics=["accuracy"])
    return kit.run(model, x[700:], (y[700:] % 2 == 0).astype("float32"), "binary", epochs=epochs)


healthy("fine_tuning", "whole", fine_tuning, epochs=12)
healthy("fine_tuning", "head_alone", fine_tuning, what="head")
broken("fine_tuning", "rate_of_ten", fine_tuning, "rate too high", {"rate": 10.0}, epochs=12)
broken("fine_tuning", "rate_low", fine_tuning, "rate too low", {"rate": 1e-7}, what="head")
broken("fine_tuning", "pixels_of_255", fine_tuning, "validation preprocessed otherwise",
       {"arrange": faults.validation_times(255.0, -20.0)}, belief=True, epochs=12)  # fmt: skip
