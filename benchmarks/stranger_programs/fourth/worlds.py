"""The fourth unseen set: small simulations: a robot arm, a rod, a chain, molecules, cells, clocks, uneven noise."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.stranger_programs.fourth.kit import Stepping, broken, healthy
from benchmarks.stranger_programs.third.kit import above_chance, explained, predicted

# -- robot_arm: the position of the hand of an arm with three joints ---------------------------------------------------


def arm_score(model, x, y):
    return explained(predicted(model, x), y)


def in_degrees(rng, x, y):
    return 180 / np.pi * x, y


def robot_arm(kit, *, rows=2000, epochs=12, rate=3e-3, loss="mse", answer=1.0, batch=32):
    turns = kit.rng.uniform(-1.2, 1.2, (rows, 3))
    reach = np.cumsum(turns, axis=1)
    y = np.stack([(np.cos(reach) @ [1.0, 0.7, 0.4]) - 1.2, np.sin(reach) @ [1.0, 0.7, 0.4]], axis=1)
    x = kit.inputs(turns.astype("float32"))
    model = keras.Sequential([keras.Input((3,)), kit.dense(48), kit.dense(48), kit.head(2)])
    if answer != 1:
        model.add(layers.Rescaling(answer))
    pieces = kit.split(x, kit.targets((answer * y).astype("float32")))
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, arm_score, loss=loss, epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "robot_arm",
    "answers_in_micrometres",
    robot_arm,
    "Targets around a million and a loss of 1e12; a last layer multiplies by a million, so it can be learned.",
    answer=1e6,
)
healthy(
    "robot_arm",
    "warm_restarts",
    robot_arm,
    "Huber loss with a cosine schedule that restarts every 150 steps, tanh, Lion.",
    loss="huber",
    also={
        "activation": "tanh",
        "optimizer": "lion",
        "early": lambda rate: keras.optimizers.schedules.CosineDecayRestarts(rate / 3, 150, t_mul=1.0),
    },
)
broken(
    "robot_arm",
    "tanh_head_in_centimetres",
    robot_arm,
    "head_cannot_reach",
    "A tanh head against positions of up to 200 centimetres; cure: a linear head, or metres.",
    {"head": "tanh"},
    also={"units": lambda y: 100 * y},
    rate=1e-2,
)
broken(
    "robot_arm",
    "encoder_ticks",
    robot_arm,
    "inputs_not_scaled",
    "Angles as raw encoder ticks with an offset of 32768; cure: scale the inputs.",
    {"inputs": lambda x: 32768 + 4096 * x},
)
broken(
    "robot_arm",
    "validation_in_degrees",
    robot_arm,
    "validation_otherwise",
    "The validation angles are in degrees, the training angles in radians; cure: radians for both.",
    {"validation_rows": in_degrees},
    belief=True,
    curable=False,
)


# -- heat_rod: a network that learns only from the equation ------------------------------------------------------------


class Rod(Stepping):
    """u'' + force = 0 on [0, 1], u = 0 at both ends; values of u are never given."""

    def __init__(self, net, sign, edge):
        super().__init__()
        self.tracker = keras.metrics.Mean(name="loss")
        self.net, self.sign, self.edge = net, sign, edge

    def call(self, x, training=False):
        return self.net(x, training=training)

    def train_step(self, data):
        x, force = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as second:
                second.watch(x)
                with tf.GradientTape() as first:
                    first.watch(x)
                    height = self.net(x, training=True)
                slope = first.gradient(height, x)[:, :1]
            bend = second.gradient(slope, x)[:, :1]
            loss = ops.mean((bend + self.sign * force) ** 2)
            for end in (0.0, 1.0):
                place = ops.concatenate([end + 0 * x[:, :1], x[:, 1:]], axis=1)
                loss += self.edge * ops.mean(self.net(place, training=True) ** 2)
        weights = self.net.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return self.told(loss)

    def test_step(self, data):
        x, force = data
        return self.told(ops.mean((self.net(x) - force / np.pi**2) ** 2))


def rod_score(model, x, y):
    return explained(predicted(model, x), y / np.pi**2)


def heat_rod(kit, *, rows=1500, epochs=12, rate=5e-3, edge=50.0, hard=False):
    x = kit.rng.uniform(0, 1, (rows, 2)).astype("float32")
    x[:, 1] = 2 * x[:, 1] - 1
    force = np.pi**2 * x[:, 1:] * np.sin(np.pi * x[:, :1])
    into = keras.Input((2,))
    hidden = kit.dense(32, "tanh")(into)
    hidden = kit.dense(32, "tanh")(hidden)
    out = layers.Dense(1)(hidden)
    if hard:
        out = out * into[:, :1] * (1 - into[:, :1])
    model = Rod(keras.Model(into, out), kit.part("sign", 1.0), 0.0 if hard else edge)
    model(x[:2])
    pieces = kit.split(x, force.astype("float32"))
    return kit.run(model, pieces, rod_score, epochs=epochs, plain=False, optimizer=kit.optimizer(rate))


healthy(
    "heat_rod",
    "soft_ends",
    heat_rod,
    "Second derivatives in the loss, a weight of 50 on the ends, a custom train_step without targets.",
)
healthy(
    "heat_rod",
    "ends_built_in",
    heat_rod,
    "The boundary conditions hold by multiplication with x (1 - x); swish in place of tanh.",
    hard=True,
    also={"activation": "swish"},
)
broken(
    "heat_rod",
    "force_with_wrong_sign",
    heat_rod,
    "wrong_sign",
    "The force has the wrong sign in the residual, so the rod bends the wrong way; cure: u'' + force.",
    {"sign": -1.0},
    curable=False,
)


# -- chain_values: values of states on a line, from single steps -------------------------------------------------------


class Values(Stepping):
    """Q-learning from stored steps, with a slow copy of the network for the targets."""

    def __init__(self, net, ends, stopped):
        super().__init__()
        self.tracker = keras.metrics.Mean(name="loss")
        self.net, self.slow, self.ends, self.stopped = net, keras.models.clone_model(net), ends, stopped
        self.slow.trainable = False
        self.slow.set_weights(net.get_weights())

    def call(self, x, training=False):
        return self.net(x, training=training)

    def loss_of(self, state, steps):
        action, reward, after, done = (steps[:, column] for column in range(4))
        goes_on = 1 - done if self.ends else 1.0
        later = ops.max(self.slow(after[:, None]), axis=1)
        value = self.net(state)
        if self.stopped:
            value = ops.stop_gradient(value)
        value = ops.sum(value * ops.one_hot(ops.cast(action, "int32"), 2), axis=1)
        return ops.mean((reward + 0.8 * goes_on * later - value) ** 2)

    def train_step(self, data):
        weights = self.net.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.loss_of(*data)
        pairs = [
            (slope, weight)
            for slope, weight in zip(tape.gradient(loss, weights), weights, strict=True)
            if slope is not None
        ]
        if pairs:
            self.optimizer.apply(*zip(*pairs, strict=True))
        for old, new in zip(self.slow.weights, self.net.weights, strict=True):
            old.assign(0.9 * old + 0.1 * new)
        return self.told(loss)

    def test_step(self, data):
        return self.told(self.loss_of(*data))


def value_score(model, x, y):
    return explained(predicted(model, x).max(1), y[:, 4])


def chain_values(kit, *, rows=2400, epochs=12, rate=3e-3, reward=1.0, batch=32):
    state = kit.rng.uniform(0, 1, (rows, 1))
    action = kit.rng.integers(0, 2, (rows, 1))
    after = np.clip(state + np.where(action == 1, 0.1, -0.1), 0, 1)
    done = after >= 0.9
    steps = np.maximum(np.ceil(np.round((0.9 - state) / 0.1, 6)), 1)
    truth = reward * 0.8 ** (steps - 1)
    y = np.concatenate([action, reward * done, after, done, truth], axis=1).astype("float32")
    net = keras.Sequential([keras.Input((1,)), kit.dense(32), kit.dense(32), kit.head(2)])
    model = Values(net, kit.part("ends", True), kit.part("stopped", False))
    model(state[:2].astype("float32"))
    pieces = kit.split(state.astype("float32"), y)
    optimizer = kit.optimizer(rate)
    return kit.run(model, pieces, value_score, epochs=epochs, batch=batch, plain=False, optimizer=optimizer)


healthy(
    "chain_values",
    "moving_targets",
    chain_values,
    "The targets come from a slow copy of the network, so the loss first rises and then falls.",
)
healthy(
    "chain_values",
    "small_rewards",
    chain_values,
    "Rewards of 0.05, so the loss is always tiny; batches of 64, RMSprop.",
    reward=0.05,
    batch=64,
    epochs=24,
    also={"optimizer": "rmsprop"},
)
broken(
    "chain_values",
    "end_not_marked",
    chain_values,
    "end_not_marked",
    "The value of the state after the end is added too, so all values are too large; cure: multiply by (1 - done).",
    {"ends": False},
    curable=False,
)
broken(
    "chain_values",
    "stop_gradient_on_the_value",
    chain_values,
    "gradient_stopped",
    "stop_gradient is around the learned value instead of the target; cure: around the target.",
    {"stopped": True},
    curable=False,
)


# -- molecules: an energy from atoms and bonds -------------------------------------------------------------------------


def energy_score(model, x, y):
    return explained(predicted(model, x), y)


def molecules(kit, *, rows=1500, epochs=12, rate=3e-3, loss="mse", batch=32):
    kinds = kit.rng.integers(0, 5, (rows, 8))
    there = np.arange(8) < kit.rng.integers(4, 9, (rows, 1))
    atoms = np.eye(5)[kinds] * there[..., None]
    bonds = np.triu(kit.rng.random((rows, 8, 8)) < 0.3, 1) & there[:, :, None] & there[:, None]
    bonds = (bonds | np.swapaxes(bonds, 1, 2)).astype("float32")
    strength = kit.rng.normal(size=(5, 5))
    energy = atoms.sum(1) @ kit.rng.normal(size=5)
    energy += np.einsum("nip,nij,njq,pq->n", atoms, bonds, atoms, (strength + strength.T) / 4)
    energy = ((energy - energy.mean()) / energy.std())[:, None].astype("float32")
    x = {"atoms": atoms.astype("float32"), "bonds": bonds}
    into = {"atoms": keras.Input((8, 5), name="atoms"), "bonds": keras.Input((8, 8), name="bonds")}
    hidden = kit.dense(32)(into["atoms"])
    for _ in range(2):
        near = ops.matmul(into["bonds"], kit.dense(32, None)(hidden))
        hidden = layers.Activation(kit.activation())(kit.dense(32, None)(hidden) + near)
    hidden = ops.sum(hidden * ops.max(into["atoms"], axis=-1, keepdims=True), axis=1)
    model = keras.Model(into, kit.head(1)(kit.dense(32)(hidden)))
    pieces = kit.split(x, kit.targets(energy))
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, energy_score, loss=loss, epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "molecules",
    "dictionary_of_a_graph",
    molecules,
    "A dictionary of padded atoms and bonds, two rounds of message passing, log-cosh.",
    loss="log_cosh",
)
broken(
    "molecules",
    "empty_column_sliced",
    molecules,
    "constant_targets",
    "An empty column of the table was used, so all energies are 0; cure: y[:, 0].",
    {"rows": lambda rng, x, y: (x, 0 * y), "validation_rows": lambda rng, x, y: (x, 0 * y)},
    curable=False,
)
broken(
    "molecules",
    "energies_in_raw_units",
    molecules,
    "targets_not_scaled",
    "Energies around -40000 with a spread of 900; cure: standardize the targets.",
    {"units": lambda y: 900 * y - 40000},
)


# -- life: the next board of the game of life --------------------------------------------------------------------------


def life_score(model, x, y):
    return above_chance((predicted(model, x) > 0.5) == (y > 0.5), max(y.mean(), 1 - y.mean()))


def life(kit, *, rows=500, epochs=10, rate=1e-2, share=0.35, batch=16, loss="binary_crossentropy"):
    board = (kit.rng.random((rows, 12, 12)) < share).astype("float32")
    near = sum(np.roll(board, (down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)) - board
    after = ((near == 3) | ((near == 2) & (board == 1))).astype("float32")
    x = np.pad(board, ((0, 0), (1, 1), (1, 1)), mode="wrap")[..., None]
    model = keras.Sequential([keras.Input((14, 14, 1)), kit.conv2(24, 3, padding="valid"), kit.conv2(24, 1)])
    model.add(layers.Conv2D(1, 1, activation="sigmoid"))
    pieces = kit.split(kit.inputs(x), kit.targets(after[..., None]))
    rate = kit.optimizer(rate)
    return kit.run(
        model,
        pieces,
        life_score,
        loss=loss,
        epochs=epochs,
        batch=batch,
        optimizer=rate,
        metrics=["binary_accuracy"],
    )


healthy("life", "boards", life, "A rule without noise, on boards of zeros and ones; the loss goes to zero.")
healthy(
    "life",
    "focal_and_crowded",
    life,
    "Boards that are half full; focal loss, so the loss is tiny from the start; ELU.",
    share=0.5,
    loss="binary_focal_crossentropy",
    also={"activation": "elu"},
    epochs=12,
)
broken(
    "life",
    "clipped_to_nothing",
    life,
    "clipping",
    "SGD with clipnorm=1e-4: no step is longer than 1e-5; cure: clipnorm=1.",
    {"optimizer_options": {"clipnorm": 1e-4, "momentum": 0.9}},
    also={"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}},
    rate=0.1,
)


# -- hetero_noise: a mean and its uncertainty --------------------------------------------------------------------------


def gauss(y, found):
    return (
        ops.log(1e-6 + ops.softplus(found[:, 1:]))
        + 0.5 * ((y - found[:, :1]) / (1e-6 + ops.softplus(found[:, 1:]))) ** 2
    )


def gauss_raw(y, found):
    return ops.log(found[:, 1:]) + 0.5 * ((y - found[:, :1]) / found[:, 1:]) ** 2


def gauss_square(y, found):
    spread = 1e-6 + ops.softplus(found[:, 1])
    return ops.mean(ops.log(spread) + 0.5 * ((y - found[:, 0]) / spread) ** 2, axis=-1)


def mean_score(model, x, y):
    return explained(predicted(model, x)[:, :1], y)


def hetero_noise(kit, *, rows=2500, epochs=15, rate=5e-3, scale=1.0, batch=32, loss=gauss):
    x = kit.rng.uniform(-2, 2, (rows, 3))
    y = np.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    y = scale * (y + 0.5 * np.exp(0.7 * x[:, 1] - 0.7) * kit.rng.normal(size=rows))
    model = keras.Sequential([keras.Input((3,)), kit.dense(32), kit.dense(32), kit.head(2)])
    pieces = kit.split(kit.inputs(x.astype("float32")), kit.targets(y[:, None].astype("float32")))
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, mean_score, loss=loss, epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "hetero_noise",
    "faint_targets",
    hetero_noise,
    "Targets around 0.03: the density is large, so the loss is far below zero.",
    scale=0.03,
)
broken(
    "hetero_noise",
    "column_against_row",
    hetero_noise,
    "broadcast_targets",
    "y of shape (n, 1) minus a mean of shape (n,) is n x n: each row is compared with all; cure: found[:, :1].",
    {"loss": gauss_square},
    curable=False,
)
broken(
    "hetero_noise",
    "spread_may_be_negative",
    hetero_noise,
    "infinite_loss",
    "The logarithm of a standard deviation from a linear unit is NaN; cure: softplus.",
    {"loss": gauss_raw},
    curable=False,
)


# -- clock_hands: the angle of a clock hand in a picture ---------------------------------------------------------------


def turned(y, found):
    return ops.sum(y * found, axis=-1)


def hand_score(model, x, y):
    return np.mean(np.sum(predicted(model, x) * y, axis=1))


def clock_hands(kit, *, rows=900, epochs=10, rate=2e-3, batch=32, loss="cosine_similarity"):
    angle = kit.rng.uniform(0, 2 * np.pi, rows)
    y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    across, down = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 16))
    along = across * y[:, :1, None] + down * y[:, 1:, None]
    beside = across * y[:, 1:, None] - down * y[:, :1, None]
    x = np.exp(-((beside / 0.15) ** 2)) * (along > 0) * (along < 0.9)
    x = kit.inputs((x + 0.2 * kit.rng.normal(size=x.shape))[..., None].astype("float32"))
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), kit.conv2(8, 3, strides=2), kit.conv2(16, 3, strides=2)]
    )
    model.add(layers.Flatten())
    model.add(kit.dense(32))
    model.add(kit.head(2))
    model.add(layers.UnitNormalization())
    pieces = kit.split(x, kit.targets(y.astype("float32")))
    rate = kit.optimizer(rate)
    return kit.run(model, pieces, hand_score, loss=loss, epochs=epochs, batch=batch, optimizer=rate)


healthy(
    "clock_hands",
    "down_to_minus_one",
    clock_hands,
    "Cosine similarity as the loss, which ends near -1; the target is a unit vector.",
)
broken(
    "clock_hands",
    "similarity_minimized",
    clock_hands,
    "wrong_sign",
    "A custom loss returns plus the similarity, so the predicted hand points away; cure: minus the similarity.",
    {"loss": turned},
    curable=False,
)
broken(
    "clock_hands",
    "rate_of_a_hundred_thousandth",
    clock_hands,
    "rate_too_low",
    "SGD at 1e-5; cure: 0.1.",
    {"rate": 1e-5},
    also={"optimizer": "sgd"},
    rate=0.1,
)
