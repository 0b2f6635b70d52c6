"""The third unseen set: masked tokens, super-resolution, noise, flow, diffusion, skip-grams, prototypes, a pendulum."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from sklearn.datasets import load_digits

from benchmarks.stranger_programs.third.kit import (
    above_chance,
    broken,
    explained,
    freeze,
    healthy,
    mixed_up,
    predicted,
    with_nan,
)

# -- masked_tokens: predict the masked tokens --------------------------------------------------------------------------


def masked(kit, *, rows=1500, length=16, words=14, epochs=10, rate=4e-3, share=0.2):
    start, step = kit.rng.integers(0, 12, (rows, 1)), kit.rng.integers(1, 4, (rows, 1))
    y = (start + step * np.arange(length)) % 12
    hidden_at = kit.rng.random(y.shape) < share
    hidden_at[:, 0] |= ~hidden_at.any(1)
    x = np.where(hidden_at, 12, y)
    weight = hidden_at.astype("float32")
    into = keras.Input((length,), dtype="int32")
    state = layers.Embedding(words, 32)(into) + layers.Embedding(length, 32)(ops.arange(length))
    state = layers.LayerNormalization()(state + layers.MultiHeadAttention(4, 8)(state, state))
    state = layers.LayerNormalization()(state + layers.Dense(32)(kit.dense(64)(state)))
    around = layers.Conv1D(32, 7, padding="same", activation="relu")(state)
    model = keras.Model(into, kit.head(12)(kit.dense(48)(kit.dropout(0.0)(around))))
    train, validation, test = kit.split((x, weight), y)
    pieces = [
        (train[0][0], train[1], kit.part("where", lambda w: w)(train[0][1])),
        (validation[0][0], validation[1], validation[0][1]),
        (test[0][0], test[1]),
    ]

    def score(model, x, y):
        return above_chance((predicted(model, x).argmax(-1) == y)[x == 12], 1 / 12)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return kit.run(
        model, pieces, score, loss=loss, epochs=epochs, batch=32, optimizer=kit.optimizer(rate), plain=False
    )


healthy(
    "masked_tokens",
    "few_are_weighed",
    masked,
    "Eight of ten tokens have weight 0, so the loss is small from the start.",
)
healthy(
    "masked_tokens",
    "half_masked",
    masked,
    "Half of all tokens are masked; dropout of 0.4, AdamW.",
    share=0.5,
    rate=8e-3,
    epochs=14,
    also={"dropout": 0.4, "optimizer": "adamw", "optimizer_options": {"weight_decay": 0.01}},
)
broken(
    "masked_tokens",
    "answers_in_sight",
    masked,
    "leak",
    "The batch has the tokens before masking, so the model only has to copy; cure: pass the masked tokens.",
    {"rows": lambda rng, x, y, w: (y, y, w), "validation_rows": lambda rng, x, y, w: (y, y, w)},
    curable=False,
    share=0.5,
    rate=8e-3,
    epochs=8,
)
broken(
    "masked_tokens",
    "all_weights_zero",
    masked,
    "weights_misplaced",
    "The mask was converted before it was filled, so all weights and the loss are zero; cure: the right mask.",
    {"where": lambda w: 0 * w},
    curable=False,
)


# -- super_resolution: 4x4 to 8x8 --------------------------------------------------------------------------------------


def finer(kit, *, epochs=10, rate=4e-3, loss="mse", low=0.0, wide=1.0):
    y = load_digits().images[..., None].astype("float32") / 16 * wide + low
    x = y.reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
    into = keras.Input((4, 4, 1))
    hidden = kit.conv2(24, 3)(kit.conv2(24, 3)(into))
    if kit.part("normed"):
        hidden = kit.norm()(hidden)
    out = (
        kit.conv2(4, 3, None)
        if kit.part("head") is None
        else layers.Conv2D(4, 3, padding="same", activation=kit.part("head"))
    )
    out = layers.Reshape((8, 8, 1))(layers.Permute((1, 3, 2, 4))(layers.Reshape((4, 4, 2, 2))(out(hidden))))
    pieces = kit.split(kit.inputs(x), kit.targets(y))

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(
        keras.Model(into, out),
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=32,
        optimizer=kit.optimizer(rate),
    )


def peak(y, found):
    return 10 * ops.log(ops.mean((y - found) ** 2) + 1e-8) / 2.302585


healthy(
    "super_resolution",
    "decibels",
    finer,
    "The loss is minus the signal-to-noise ratio in decibels, from about -5 to below -15.",
    loss=peak,
    epochs=14,
)
healthy(
    "super_resolution",
    "bytes",
    finer,
    "Gray values from 0 to 255 as inputs and targets, not scaled; the loss begins in the thousands.",
    wide=255.0,
    rate=6e-3,
)
broken(
    "super_resolution",
    "sigmoid_on_bytes",
    finer,
    "head_cannot_reach",
    "The head is a sigmoid, but gray values go up to 255; cure: no activation, or values from 0 to 1.",
    {"head": "sigmoid"},
    wide=255.0,
    rate=6e-3,
)
broken(
    "super_resolution",
    "pictures_of_others",
    finer,
    "labels_mixed_up",
    "Fine and coarse pictures were listed in different orders; cure: sort both.",
    {"rows": mixed_up},
    curable=False,
)


# -- noise2noise: noisy pictures as targets ----------------------------------------------------------------------------


def noisy_pairs(kit, *, epochs=10, noise=0.5, rate=3e-3, flat=False, loss="mse"):
    clean = load_digits().data.astype("float32") / 8 - 1
    x = clean + noise * kit.rng.normal(size=clean.shape).astype("float32")
    y = clean + noise * kit.rng.normal(size=clean.shape).astype("float32")
    model = keras.Sequential(
        [keras.Input((64,)), kit.dense(64), kit.dropout(0.0), kit.dense(32), kit.head(64)]
    )
    train, validation, test = kit.split(kit.inputs(x), np.stack([y, clean], 1))
    pieces = [(x, kit.targets(y[:, 0])) for x, y in (train, validation)] + [(test[0], test[1][:, 1])]

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(model, pieces, score, loss=loss, epochs=epochs, batch=32, optimizer=kit.optimizer(rate))


healthy(
    "noise2noise",
    "loss_stays_high",
    noisy_pairs,
    "Targets are noisy too: the loss stays far above 0.5 and hardly falls, but the cleaned picture is good.",
    noise=0.7,
    epochs=20,
)
healthy(
    "noise2noise",
    "sgd_only",
    noisy_pairs,
    "SGD with Nesterov momentum at a rate of 2, which suits a mean over 64 outputs.",
    rate=1.0,
    epochs=20,
    also={"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "nesterov": True}},
)
broken(
    "noise2noise",
    "targets_all_zero",
    noisy_pairs,
    "constant_targets",
    "The loader returned zeros as targets, so the loss goes to zero; cure: mend the loader.",
    {"targets": lambda y: 0 * y},
    curable=False,
)
broken(
    "noise2noise",
    "dropout_of_almost_all",
    noisy_pairs,
    "dropout",
    "Dropout(0.97), where 0.97 was meant as the share to keep; cure: Dropout(0.03).",
    {"dropout": 0.985},
    epochs=14,
)


# -- flow: couplings that turn moons into a Gaussian, likelihood in a custom step --------------------------------------


class Flow(keras.Model):
    def __init__(self, kit, couplings, **options):
        super().__init__(**options)
        self.volume = kit.part("volume", 1.0)
        self.nets = [
            keras.Sequential([keras.Input((1,)), kit.dense(32), kit.dense(32), layers.Dense(2)])
            for _ in range(couplings)
        ]
        self.told = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.told]

    def call(self, x):
        volume = 0.0
        kept, moved = x[:, :1], x[:, 1:]
        for net in self.nets:
            stretch, shift = tf.split(net(kept), 2, axis=1)
            stretch = tf.tanh(stretch) * 2
            kept, moved = moved * tf.exp(stretch) + shift, kept
            volume += stretch
        return tf.concat([0.5 * (kept**2 + moved**2) + 0.919 * 2, volume], 1)

    def loss_of(self, x):
        found = self(x)
        return tf.reduce_mean(found[:, 0] - self.volume * found[:, 1])

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.loss_of(data[0])
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self.told.update_state(loss)
        return {"loss": self.told.result()}

    def test_step(self, data):
        self.told.update_state(self.loss_of(data[0]))
        return {"loss": self.told.result()}


def flow(kit, *, rows=2000, epochs=20, rate=4e-3, couplings=6, scale=1.0):
    turn, side = kit.rng.uniform(0, np.pi, rows), kit.rng.integers(0, 2, rows)
    x = np.stack([np.cos(turn) + side, np.where(side, -1, 1) * np.sin(turn) + 0.5 * side], 1)
    x = scale * ((x - x.mean(0)) / x.std(0) + 0.05 * kit.rng.normal(size=x.shape))
    model = Flow(kit, couplings)
    model(np.zeros((1, 2), "float32"))
    pieces = kit.split(kit.inputs(x.astype("float32")), np.zeros((rows, 1), "float32"))

    def score(model, x, y):
        bell, volume = predicted(model, x).T
        return (2 * (0.919 + 0.5 + np.log(scale)) - np.mean(bell - volume)) / 1.5

    return kit.run(model, pieces, score, epochs=epochs, batch=64, optimizer=kit.optimizer(rate), plain=False)


healthy(
    "flow",
    "small_world",
    flow,
    "Data with a scale of 1/20: the likelihood loss ends far below zero; targets are dummies.",
    scale=0.05,
)
healthy(
    "flow",
    "many_couplings_clipped",
    flow,
    "Ten couplings with gradients clipped to a norm of 1.",
    couplings=8,
    also={"optimizer_options": {"clipnorm": 1.0}},
    epochs=16,
)
broken(
    "flow",
    "volume_left_out",
    flow,
    "wrong_loss",
    "The loss lacks the log-determinant, so all points are squeezed into one; cure: add it.",
    {"volume": 0.0},
    curable=False,
)
broken("flow", "adam_at_one", flow, "rate_too_high", "Adam at a rate of 1; cure: 0.004.", {"rate": 1.0})


# -- diffusion: which noise was added? ---------------------------------------------------------------------------------


def diffusion(kit, *, rows=3000, epochs=10, rate=4e-3, width=64, loss="mse"):
    turn = kit.rng.uniform(0, 2 * np.pi, rows)
    place = np.stack([np.cos(turn), np.sin(turn)], 1)
    level = kit.rng.uniform(0.05, 0.95, (rows, 1))
    noise = kit.rng.normal(size=(rows, 2))
    x = np.concatenate([np.sqrt(level) * place + np.sqrt(1 - level) * noise, 2 * level - 1], 1).astype(
        "float32"
    )
    layer = keras.Sequential(
        [keras.Input((3,)), kit.dense(width, "swish"), kit.dense(width, "swish"), kit.head(2)]
    )
    pieces = kit.split(kit.inputs(x), kit.targets(noise.astype("float32")))

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(layer, pieces, score, loss=loss, epochs=epochs, batch=64, optimizer=kit.optimizer(rate))


healthy(
    "diffusion",
    "noise_is_the_target",
    diffusion,
    "The target is pure noise, of which seven tenths can be predicted.",
)
healthy(
    "diffusion",
    "one_epoch_of_small_batches",
    diffusion,
    "One epoch in batches of eight, averaged weights (EMA).",
    epochs=1,
    also={"batch": 8, "optimizer_options": {"use_ema": True, "ema_momentum": 0.95}},
)
broken(
    "diffusion",
    "noise_drawn_twice",
    diffusion,
    "labels_mixed_up",
    "The noise is drawn a second time for the target; cure: use the noise that was added.",
    {"rows": mixed_up},
    curable=False,
)
broken(
    "diffusion",
    "holes_in_the_cloud",
    diffusion,
    "nan_inputs",
    "The square root of a negative noise level gives NaN in some rows; cure: clip the level.",
    {"rows": with_nan},
    curable=False,
)


# -- skipgram: words that occur together ------------------------------------------------------------------------------


def skipgram(kit, *, rows=6000, topics=6, epochs=5, rate=1e-2, negatives=True, size=8):
    words = topics * 8
    topic = kit.rng.integers(0, topics, rows)
    near = kit.rng.random(rows) < 0.5
    other = (topic + kit.rng.integers(1, topics, rows)) % topics
    second = np.where(near, topic, other)
    x = {"word": topic * 8 + kit.rng.integers(0, 8, rows), "other": second * 8 + kit.rng.integers(0, 8, rows)}
    x = {name: value[:, None].astype("int32") for name, value in x.items()}
    pieces = kit.split(x, near.astype("float32")[:, None])
    into = {name: keras.Input((1,), name=name, dtype="int32") for name in x}
    table = [
        layers.Embedding(
            words, size, embeddings_initializer=kit.part("initializer", "uniform"), name=f"{name}_table"
        )
        for name in x
    ]
    close = layers.Dot(axes=2)([part(value) for part, value in zip(table, into.values(), strict=True)])
    model = keras.Model(into, layers.Flatten()(close))

    def score(model, x, y):
        return above_chance((predicted(model, x) > 0) == (y > 0.5), 0.5)

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return kit.run(
        model,
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=64,
        optimizer=kit.optimizer(rate),
        metrics=["mae"],
    )


def only_near(rng, x, y):
    keep = y[:, 0] > 0.5
    return {name: value[keep] for name, value in x.items()}, y[keep]


healthy(
    "skipgram",
    "slow_first_epoch",
    skipgram,
    "Both embeddings start with tiny numbers: nothing happens in the first epoch, then all at once.",
    epochs=7,
)
healthy(
    "skipgram",
    "wide_tables",
    skipgram,
    "64 dimensions per word for 48 words, more than needed.",
    size=64,
    epochs=4,
)
broken(
    "skipgram",
    "no_negatives",
    skipgram,
    "constant_targets",
    "Only pairs from the text and no random pairs, so the target is always 1; cure: draw negatives.",
    {"rows": only_near},
    curable=False,
)
broken(
    "skipgram",
    "tables_from_zero",
    skipgram,
    "zero_initialization",
    "Both embeddings start at zero, so their gradients stay zero; cure: a uniform initializer.",
    {"initializer": "zeros"},
)


# -- prototypes: few-shot episodes in a custom training step -----------------------------------------------------------


class Prototypes(keras.Model):
    """An episode: five rows of each of four classes; the first three of each make the prototype."""

    def __init__(self, kit, **options):
        super().__init__(**options)
        self.net = keras.Sequential([keras.Input((16,)), kit.dense(64), kit.dense(16, None)])
        self.sign = kit.part("sign", -1.0)

    def call(self, episode):
        place = self.net(tf.reshape(episode, (-1, 16)))
        place = tf.reshape(place, (-1, 4, 5, 16))
        middle = tf.reduce_mean(place[:, :, :3], 2)
        asked = tf.reshape(place[:, :, 3:], (-1, 8, 16))
        return self.sign * tf.reduce_sum((asked[:, :, None] - middle[:, None]) ** 2, -1)


def prototypes(kit, *, episodes=500, epochs=6, rate=3e-3, mixed=False, batch=8):
    mix = kit.rng.normal(size=(16, 16))
    kinds = kit.rng.normal(size=(episodes, 4, 1, 4))
    inside = np.concatenate(
        [
            kinds + 0.5 * kit.rng.normal(size=(episodes, 4, 5, 4)),
            2 * kit.rng.normal(size=(episodes, 4, 5, 12)),
        ],
        -1,
    )
    x = (inside @ mix / 4).astype("float32")
    y = np.tile(np.repeat(np.arange(4), 2), (episodes, 1))
    model = Prototypes(kit)
    model(x[:1])
    pieces = kit.split(kit.inputs(x), kit.targets(y))

    def score(model, x, y):
        found = predicted(model, x) * (model.sign * -1)
        return above_chance(found.argmax(-1) == y, 0.25)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return kit.run(
        model,
        pieces,
        score,
        loss=loss,
        epochs=epochs,
        batch=batch,
        optimizer=kit.optimizer(rate),
        plain=False,
        metrics=["accuracy"],
    )


healthy(
    "prototypes",
    "episodes",
    prototypes,
    "Every episode has other classes; the loss is on distances, and one example of the batch is 20 rows.",
)
healthy(
    "prototypes",
    "one_episode_a_step",
    prototypes,
    "Batches of one episode: the loss is very noisy.",
    batch=1,
    epochs=4,
    rate=1e-3,
)
broken(
    "prototypes",
    "nearest_is_worst",
    prototypes,
    "wrong_sign",
    "Distances enter the softmax without a minus sign, so the farthest prototype wins; cure: the minus sign.",
    {"sign": 1.0},
    curable=False,
)
broken(
    "prototypes",
    "everything_frozen",
    prototypes,
    "frozen",
    "The network was frozen for a comparison and never unfrozen; cure: trainable = True.",
    {"weights": freeze},
)


# -- pendulum: predict one time step -----------------------------------------------------------------------------------


def pendulum(kit, *, rows=1500, epochs=10, rate=3e-3, depth=2, step=1.0, batch=32):
    angle, speed = kit.rng.uniform(-3, 3, rows), kit.rng.uniform(-3, 3, rows)
    push = -2 * np.sin(angle) - 0.3 * speed * np.abs(speed)
    x = np.stack([np.sin(angle), np.cos(angle), speed], 1).astype("float32")
    y = (step * np.stack([speed + 0.5 * push, push], 1)).astype("float32")
    hidden = into = keras.Input((3,))
    for _ in range(depth):
        hidden = kit.dense(32, "tanh")(hidden)
    model = keras.Model(into, layers.Rescaling(step)(kit.head(2)(hidden)))
    pieces = kit.split(kit.inputs(x), kit.targets(y))

    def score(model, x, y):
        return explained(predicted(model, x), y)

    return kit.run(
        model, pieces, score, loss="mse", epochs=epochs, batch=batch, optimizer=kit.optimizer(rate)
    )


healthy(
    "pendulum",
    "steps_of_a_thousandth",
    pendulum,
    "Time steps of 0.001: a loss of 1e-6, which a rescaling layer makes learnable.",
    step=0.001,
)
healthy(
    "pendulum",
    "rising_rate",
    pendulum,
    "The rate rises during the whole training.",
    epochs=12,
    rate=keras.optimizers.schedules.PolynomialDecay(1e-4, 330, 1e-2),
)
broken(
    "pendulum",
    "weights_too_wide",
    pendulum,
    "large_initialization",
    "Kernels with a standard deviation of 8 saturate every tanh; cure: glorot_uniform.",
    {"initializer": keras.initializers.RandomNormal(stddev=30.0)},
    depth=4,
)
broken(
    "pendulum",
    "rate_of_a_millionth",
    pendulum,
    "rate_too_low",
    "Adam at 1e-6, copied from fine-tuning; cure: 0.003.",
    {"rate": 1e-6},
)
