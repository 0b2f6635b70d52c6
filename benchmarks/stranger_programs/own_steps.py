"""Families with a custom training step, loss or pairing: no labels, several networks, pairs and views."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs import data, faults
from benchmarks.stranger_programs.kit import Kit, Run, above_chance, broken, healthy

# -- Siamese networks --------------------------------------------------------------------------------------------------


def siamese(kit: Kit, *, how="contrastive", epochs=12) -> Run:
    """Two pictures of digits: is it the same digit?"""
    x, y = data.digits(1000)
    left = kit.rng.permutation(1000)
    same = np.array([kit.rng.choice(np.flatnonzero(y == y[i])) for i in left])
    other = np.array([kit.rng.choice(np.flatnonzero(y != y[i])) for i in left])
    equal = kit.rng.random(1000) < 0.5
    pairs = {"left": x[left], "right": np.where(equal[:, None, None, None], x[same], x[other])}
    body = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), kit.dense(64), layers.Dense(16)])
    entries = {name: keras.Input((8, 8, 1), name=name) for name in pairs}
    one, two = body(entries["left"]), body(entries["right"])
    if how == "contrastive":
        distance = ops.sqrt(ops.sum(ops.square(one - two), axis=1, keepdims=True) + kit.get("epsilon", 1e-6))
        model, labels = keras.Model(entries, distance), 1 - equal
        kit.compile(model, margin_loss, optimizer=kit.optimizer(rate=3e-3))
    else:
        joined = kit.dense(32)(ops.concatenate([ops.abs(one - two), one * two], axis=1))
        model, labels = keras.Model(entries, kit.head(1, "sigmoid")(joined)), equal
        kit.compile(model, "binary_crossentropy", optimizer=kit.optimizer(rate=3e-3), metrics=["accuracy"])

    def score(model, x, y):
        guess = model.predict(x, verbose=0)[:, 0]
        return above_chance(np.mean((guess > 0.5) == (y > 0.5)), 0.5) if np.isfinite(guess).all() else -1.0

    return kit.run(model, pairs, labels.astype("float32"), score, epochs=epochs)


def margin_loss(true, distance):
    """Contrastive loss; the label is 1 for different pairs and 0 for equal ones."""
    distance = ops.squeeze(distance, -1)
    true = ops.reshape(true, ops.shape(distance))
    return (1 - true) * ops.square(distance) + true * ops.square(ops.relu(1 - distance))


healthy("siamese", "contrastive", siamese, epochs=25)
healthy("siamese", "joined_sigmoid", siamese, how="joined", epochs=20)
broken("siamese", "root_without_epsilon", siamese, "NaN from a layer", {"epsilon": -0.5}, epochs=25)
broken(
    "siamese",
    "labels_one_two",
    siamese,
    "labels outside 0..1",
    {"targets": lambda y: y + 1},
    how="joined",
    epochs=20,
)
broken(
    "siamese",
    "exponential",
    siamese,
    "logits as probabilities",
    {"head": "exponential"},
    how="joined",
    epochs=20,
)
broken(
    "siamese",
    "tanh",
    siamese,
    "logits as probabilities",
    {"head": "tanh"},
    also={"rate": 0.03},
    how="joined",
    epochs=20,
)
broken("siamese", "softmax", siamese, "softmax on one unit", {"head": "softmax"}, how="joined", epochs=20)
broken("siamese", "rate", siamese, "rate too high", {"rate": 3.0}, epochs=25)
broken("siamese", "pairs_shuffled", siamese, "labels shuffled", {"arrange": faults.shuffled}, epochs=25)


# -- metric learning ---------------------------------------------------------------------------------------------------


def all_triplets(true, vectors):
    """Triplet loss with margin 0.3 on vectors of length 1, the mean over all triplets of the batch."""
    gap = 2 - 2 * ops.matmul(vectors, ops.transpose(vectors))
    same = ops.equal(ops.reshape(true, (-1, 1)), ops.reshape(true, (1, -1)))
    same = ops.cast(same, "float32")
    miss = ops.relu(gap[:, :, None] - gap[:, None, :] + 0.3) * same[:, :, None] * (1 - same[:, None, :])
    return ops.sum(miss, axis=(1, 2)) / (ops.sum(same, axis=1) * ops.sum(1 - same, axis=1) + 1e-6)


def proxies(true, vectors):
    """Each class has a fixed direction: cross-entropy over scaled cosines with these directions."""
    frame = tf.one_hot(tf.range(10), 16)
    one = tf.one_hot(tf.cast(tf.reshape(true, (-1,)), tf.int32), 10)
    return tf.nn.softmax_cross_entropy_with_logits(one, 8.0 * tf.matmul(vectors, frame, transpose_b=True))


def nearest(model, x, y):
    """How often the nearest other example has the same class, rescaled so that chance (a tenth) is 0."""
    vectors = model.predict(x, verbose=0)
    if not np.isfinite(vectors).all():
        return -1.0
    near = vectors @ vectors.T + 1e-6 * np.random.default_rng(0).normal(size=(len(x), len(x)))
    np.fill_diagonal(near, -np.inf)
    return above_chance(np.mean(y[near.argmax(1)] == y), 0.1)


def metric_learning(kit: Kit, *, loss="triplets", epochs=12) -> Run:
    x, y = data.digits(900)
    entry = keras.Input((8, 8, 1))
    body = kit.head(16)(kit.dense(64)(layers.Flatten()(entry)))
    model = keras.Model(entry, layers.UnitNormalization()(body))
    kit.compile(model, all_triplets if loss == "triplets" else proxies, optimizer=kit.optimizer(rate=3e-3))
    return kit.run(model, x, y, nearest, epochs=epochs, batch=64)


healthy("metric_learning", "triplets", metric_learning)
healthy("metric_learning", "proxies", metric_learning, loss="proxies")
broken(
    "metric_learning",
    "labels_shuffled",
    metric_learning,
    "labels shuffled",
    {"arrange": faults.shuffled},
    also={"epochs": 30},
    loss="proxies",
)
broken(
    "metric_learning",
    "all_equal",
    metric_learning,
    "all weights equal",
    {"initializer": keras.initializers.Constant(0.1)},
    also={"rate": 0.001},
    loss="proxies",
)
broken("metric_learning", "rate", metric_learning, "rate too high", {"rate": 10.0}, loss="proxies")
broken("metric_learning", "dead", metric_learning, "units dead", {"bias": keras.initializers.Constant(-30.0)})


# -- variational autoencoders ------------------------------------------------------------------------------------------


class Draw(layers.Layer):
    def call(self, inputs):
        mean, log_variance = inputs
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean))


class VariationalAutoencoder(keras.Model):
    def __init__(self, kit, weight, **options):
        super().__init__(**options)
        entry = keras.Input((64,))
        hidden = kit.dense(48)(entry)
        mean, log_variance = layers.Dense(6)(hidden), layers.Dense(6)(hidden)
        self.encoder = keras.Model(entry, [mean, log_variance])
        self.draw = Draw()
        self.decoder = keras.Sequential([keras.Input((6,)), kit.dense(48), kit.head(64, "sigmoid")])
        self.weight = weight
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")]
        self.wrong_log = kit.get("wrong_log", False)

    @property
    def metrics(self):
        return self.trackers

    def call(self, inputs):
        return self.decoder(self.encoder(inputs)[0])

    def losses_of(self, x):
        mean, log_variance = self.encoder(x, training=True)
        guess = self.decoder(self.draw([mean, log_variance]), training=True)
        if self.wrong_log:  # the logarithm of a probability that may be 0
            guess = ops.relu(guess - 0.5) * 2
            error = -ops.sum(x * ops.log(guess) + (1 - x) * ops.log(1 - guess), axis=1)
        else:
            error = ops.sum(keras.losses.binary_crossentropy(x[..., None], guess[..., None]), axis=1)
        kl = -0.5 * ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), axis=1)
        return ops.mean(error), ops.mean(kl)

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            error, kl = self.losses_of(x)
            loss = error + self.weight * kl
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        for tracker, value in zip(self.trackers, (loss, error, kl), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def test_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        error, kl = self.losses_of(x)
        for tracker, value in zip(self.trackers, (error + self.weight * kl, error, kl), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def unlabelled(run):
    """The program passes only inputs to `fit`."""
    run.train, run.validation, run.preflight, run.doctor_data = (
        run.train[0],
        (run.validation[0],),
        False,
        False,
    )
    return run


def vae(kit: Kit, *, weight=0.5, epochs=25) -> Run:
    x, _ = data.digits(900)
    model = VariationalAutoencoder(kit, kit.get("weight", weight))
    model.compile(optimizer=kit.optimizer(rate=5e-3))
    scale = np.float32(kit.get("scale", 1.0))
    x = scale * x.reshape(len(x), 64)
    run = unlabelled(kit.run(model, x, x, "reproduce", epochs=epochs))
    model(x[:2])
    kit.get("after", lambda model: None)(model)
    return run


healthy("vae", "digits", vae)
healthy("vae", "weight_of_one", vae, weight=1.0, epochs=30)
broken("vae", "rate", vae, "rate too high", {"rate": 10.0})
broken("vae", "rate_low", vae, "rate too low", {"rate": 1e-7})
broken("vae", "weight_of_a_thousand", vae, "penalty too strong", {"weight": 1000.0})
broken("vae", "logarithm_of_zero", vae, "NaN from a layer", {"wrong_log": True})
broken("vae", "zeros", vae, "all weights zero", {"initializer": "zeros"})


# -- adversarial networks ----------------------------------------------------------------------------------------------


class Adversarial(keras.Model):
    """A generator of points in the plane, and a discriminator."""

    def __init__(self, kit, **options):
        super().__init__(**options)
        self.generator = keras.Sequential([keras.Input((4,)), kit.dense(32), kit.dense(32), kit.head(2)])
        self.critic = keras.Sequential(
            [keras.Input((2,)), layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(1)]
        )
        self.forgets = kit.get("forgets_generator", False)
        self.critic_loss = keras.metrics.Mean(name="d_loss")
        self.generator_loss = keras.metrics.Mean(name="g_loss")

    def compile(self, critic_optimizer, generator_optimizer):
        super().compile()
        self.critic_optimizer, self.generator_optimizer = critic_optimizer, generator_optimizer

    @property
    def metrics(self):
        return [self.critic_loss, self.generator_loss]

    def call(self, inputs):
        return self.generator(inputs)

    def train_step(self, real):
        count = tf.shape(real)[0]
        noise = tf.random.normal((count, 4))
        with tf.GradientTape() as tape:
            true, false = self.critic(real), self.critic(self.generator(noise))
            loss = tf.reduce_mean(tf.nn.softplus(-true)) + tf.reduce_mean(tf.nn.softplus(false))
        weights = self.critic.trainable_weights
        self.critic_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            fooled = tf.reduce_mean(tf.nn.softplus(-self.critic(self.generator(noise))))
        weights = self.generator.trainable_weights
        if not self.forgets:
            self.generator_optimizer.apply_gradients(
                zip(tape.gradient(fooled, weights), weights, strict=True)
            )
        self.critic_loss.update_state(loss)
        self.generator_loss.update_state(fooled)
        return {"d_loss": self.critic_loss.result(), "g_loss": self.generator_loss.result()}


def gan(kit: Kit, *, centre=(2.0, -1.0), epochs=40) -> Run:
    real = (np.array(centre) + kit.rng.normal(size=(800, 2)) * [0.5, 0.25]).astype("float32")
    model = Adversarial(kit)
    rate = kit.get("rate", 1e-3)
    model.compile(keras.optimizers.Adam(rate, beta_1=0.5), keras.optimizers.Adam(rate, beta_1=0.5))
    noise = kit.rng.normal(size=(500, 4)).astype("float32")

    def score(model):
        """1 minus the errors of mean and deviation, relative to the distance of the true mean from 0."""
        drawn = np.asarray(model.generator(noise))
        beside = np.linalg.norm(drawn.mean(0) - centre) + np.linalg.norm(drawn.std(0) - [0.5, 0.25])
        return 1 - beside / np.linalg.norm(centre)

    pipeline = tf.data.Dataset.from_tensor_slices(real).shuffle(800, seed=kit.seed).batch(32)
    return Run(model, pipeline, None, epochs, score, preflight=False, doctor_data=False)


healthy("gan", "points", gan, enough=0.5)
healthy("gan", "points_elsewhere", gan, centre=(-1.5, 3.0), epochs=50, enough=0.5)
broken("gan", "rate", gan, "rate too high", {"rate": 5.0})
broken("gan", "generator_without_steps", gan, "layers frozen", {"forgets_generator": True})
broken("gan", "generator_of_zeros", gan, "all weights zero", {"initializer": "zeros"})


# -- distillation ------------------------------------------------------------------------------------------------------


class Distiller(keras.Model):
    def __init__(self, student, teacher, share=0.7, heat=3.0, **options):
        super().__init__(**options)
        self.student, self.teacher, self.share, self.heat = student, teacher, share, heat
        self.teacher.trainable = False

    def call(self, inputs):
        return self.student(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        true = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        soft = ops.softmax(self.teacher(x, training=False) / self.heat)
        taught = keras.losses.categorical_crossentropy(soft, y_pred / self.heat, from_logits=True)
        return ops.mean((1 - self.share) * true + self.share * self.heat**2 * taught)


def distillation(kit: Kit, *, share=0.7, epochs=12, what="digits") -> Run:
    x, y = data.digits(900) if what == "digits" else data.blobs(kit.rng)
    classes = int(y.max()) + 1
    teacher = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.Flatten(), layers.Dense(96, "relu"), layers.Dense(classes)]
    )
    teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(x, y, epochs=6, verbose=0)
    student = keras.Sequential([keras.Input(x.shape[1:]), layers.Flatten(), kit.dense(20), kit.head(classes)])
    kit.get("weights", lambda model: None)(student)
    model = Distiller(student, teacher, kit.get("share", share))
    model.compile(optimizer=kit.optimizer(rate=5e-3), metrics=["accuracy"])
    return kit.run(model, x, y, "sparse", epochs=epochs, preflight=False)


healthy("distillation", "digits", distillation)
healthy("distillation", "blobs_mostly_taught", distillation, what="blobs", share=0.95)
broken("distillation", "student_frozen", distillation, "layers frozen", {"weights": faults.freeze})
broken("distillation", "rate", distillation, "rate too high", {"rate": 50.0})
broken(
    "distillation", "dead_student", distillation, "units dead", {"bias": keras.initializers.Constant(-50.0)}
)
broken(
    "distillation",
    "labels_from_one",
    distillation,
    "labels beyond the units",
    {"targets": lambda y: y + 1},
    what="blobs",
    share=0.95,
)


# -- contrastive learning of views -------------------------------------------------------------------------------------


class Views(keras.Model):
    """Two noisy views of an example should be matched within the batch; inputs may be a dictionary."""

    def __init__(self, kit, **options):
        super().__init__(**options)
        self.body = keras.Sequential([keras.Input((64,)), kit.dense(64), kit.head(24)])
        self.heat = kit.get("heat", 0.2)
        self.tracker = keras.metrics.Mean(name=kit.get("log", "c_loss"))

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, inputs):
        return ops.normalize(self.body(inputs), axis=-1)

    def view(self, x):
        return x * tf.cast(tf.random.uniform(tf.shape(x)) > 0.25, x.dtype) + 0.1 * tf.random.normal(
            tf.shape(x)
        )

    def pair_loss(self, x):
        alike = tf.matmul(self(self.view(x)), self(self.view(x)), transpose_b=True) / self.heat
        at = tf.range(tf.shape(x)[0])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=at, logits=alike))

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        x = x["picture"] if isinstance(x, dict) else x
        with tf.GradientTape() as tape:
            loss = self.pair_loss(x)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.tracker.update_state(loss)
        return {self.tracker.name: self.tracker.result()}

    def test_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        x = x["picture"] if isinstance(x, dict) else x
        self.tracker.update_state(self.pair_loss(x))
        return {self.tracker.name: self.tracker.result()}


def contrastive(kit: Kit, *, named=False, epochs=25) -> Run:
    x, _ = data.digits(800)
    x = x.reshape(800, 64)
    model = Views(kit)
    model.compile(optimizer=kit.optimizer(rate=3e-3))
    rng = np.random.default_rng(3)

    def score(model, x, y):
        """How often a corrupted view is closest to its own clean example, among a hundred."""
        x = x["picture"] if isinstance(x, dict) else x
        x = x[:100]
        spoilt = x * (rng.random(x.shape) > 0.3)
        clean, found = np.asarray(model(x)), np.asarray(model(spoilt.astype("float32")))
        return np.mean((found @ clean.T).argmax(1) == np.arange(len(x))) if np.isfinite(clean).all() else -1.0

    run = kit.run(model, {"picture": x} if named else x, x, score, epochs=epochs, batch=64)
    return unlabelled(run)


healthy("contrastive", "views", contrastive)
healthy("contrastive", "views_by_name", contrastive, named=True)
broken("contrastive", "rate_low", contrastive, "rate too low", {"rate": 1e-8})
broken("contrastive", "zeros", contrastive, "all weights zero", {"initializer": "zeros"})
broken(
    "contrastive", "logarithm", contrastive, "NaN from a layer", {"activation": ops.log}, also={"log": "loss"}
)


# -- a training step written by hand, with labels ----------------------------------------------------------------------


class WrittenOut(keras.Model):
    """A training step written by hand as in the guides; targets may be a dictionary, and it may log no loss."""

    def __init__(self, kit, classes, log, **options):
        super().__init__(**options)
        self.first = kit.dense(32)
        self.last = kit.head(classes)
        self.log = log
        self.tracker = keras.metrics.Mean(name="objective")
        self.right = keras.metrics.SparseCategoricalAccuracy(name="right")

    @property
    def metrics(self):
        return [self.tracker, self.right]

    def call(self, inputs):
        return self.last(self.first(inputs))

    def judge(self, y, guess):
        y = y["kind"] if isinstance(y, dict) else y
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.cast(y, tf.int32), logits=guess)
        )
        self.tracker.update_state(loss)
        self.right.update_state(y, guess)
        return loss

    def result(self):
        found = {"right": self.right.result()}
        return {**found, self.log: self.tracker.result()} if self.log else found

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.judge(y, self(x, training=True))
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return self.result()

    def test_step(self, data):
        x, y = data
        self.judge(y, self(x, training=False))
        return self.result()


def written_out(kit: Kit, *, log="loss", named=False, epochs=15) -> Run:
    x, y = data.blobs(kit.rng, classes=3)
    model = WrittenOut(kit, 3, log)
    model.compile(optimizer=kit.optimizer(rate=5e-3))

    def score(model, x, y):
        y = y["kind"] if isinstance(y, dict) else y
        guess = model.predict(x, verbose=0)
        return (
            above_chance(np.mean(guess.argmax(-1) == y), np.bincount(y).max() / len(y))
            if np.isfinite(guess).all()
            else -1.0
        )

    return kit.run(model, x, {"kind": y} if named else y, score, epochs=epochs, preflight=False)


healthy("written_out", "with_a_loss", written_out)
healthy("written_out", "no_loss_in_the_logs", written_out, log=None)
healthy("written_out", "targets_by_name", written_out, log="objective", named=True)
broken(
    "written_out", "rate", written_out, "rate too high", {"rate": 300.0}, also={"optimizer": "SGD"}, log=None
)
broken(
    "written_out", "shuffled_and_nan", written_out, "NaN in the inputs", {"arrange": faults.shuffled_with_nan}
)
broken("written_out", "rate_low", written_out, "rate too low", {"rate": 1e-8}, log="objective", named=True)
broken("written_out", "unscaled", written_out, "inputs unscaled", {"inputs": lambda x: 20000 + 3000 * x})
