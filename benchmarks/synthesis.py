"""CPU time of a step of image synthesis, compared with the floor, the usual eager loop and tf-keras-vis.

    python benchmarks/synthesis.py                       # about eight minutes on two cores
    python benchmarks/synthesis.py --quick

The floor is one compiled forward pass and gradient of the part of the network that a step needs. All times are CPU
time of this process per step, after a warm-up: medians over interleaved rounds, so that a busy machine disturbs all
alike. The networks are MobileNetV2 with alpha 0.35 at 96 pixels, and ResNet50 at 224 pixels, with random weights, whose
values do not matter here. tf-keras-vis runs without its regularizers and input modifiers; ours runs with the default
views and Fourier coefficients, and also without them. The operations on the image itself (Fourier transforms, total
variation, Adam) cost the same with a small and with a large network, so both networks are shown.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import explain

EARLY, DEEP = "block_6_expand", "conv3_block4_out"
SLOW = "eager loop", "tf-keras-vis ActivationMaximization"  # slow loops, for which a few steps are enough


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--steps", type=int, default=64, help="steps per round")
    parser.add_argument("--only", choices=["mobilenet", "resnet"])
    parser.add_argument("--quick", action="store_true", help="two rounds of 16 steps of MobileNetV2")
    arguments = parser.parse_args()
    rounds, steps = (2, 16) if arguments.quick else (arguments.rounds, arguments.steps)
    if arguments.only != "resnet":
        small_network(rounds, steps)
    if arguments.only != "mobilenet" and not arguments.quick:
        large_network(min(rounds, 4))


def small_network(rounds, steps):
    """Every loop, compared with its floor and its peers."""
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=1000)
    bare = {"parameterization": "pixels", "optimizer": "adam", "learning_rate": 0.02, "l2": 0.0}
    common = {"value_range": (-1, 1), "verbose": 0}
    photo = np.random.default_rng(0).uniform(-1, 1, (96, 96, 3)).astype("float32")
    style = {"content_layer": EARLY, "style_layers": ["Conv1", EARLY]}

    class_floor, unit_floor = floor(model, "logits"), floor(model, EARLY)
    gram_floor = style_floor(model, style["style_layers"], 96)
    loops = {
        "floor: forward + gradient": lambda n: [class_floor() for _ in range(n)],
        "class_image, pixels": lambda n: explain.class_image(model, 7, steps=n, **bare, **common),
        "class_image, Fourier and views": lambda n: explain.class_image(model, 7, steps=n, **common),
        **dict(zip(SLOW, (eager_loop(model), tf_keras_vis_loop(model)), strict=True)),
        f"floor up to {EARLY}": lambda n: [unit_floor() for _ in range(n)],
        f"unit_image of {EARLY}, pixels": lambda n: explain.unit_image(
            model, EARLY, 3, steps=n, **bare, **common
        ),
        f"unit_image of {EARLY}, Fourier and views": lambda n: explain.unit_image(
            model, EARLY, 3, steps=n, **common
        ),
        f"deep_dream of {EARLY}": lambda n: explain.deep_dream(
            model, photo, EARLY, octaves=1, steps=n, **common
        ),
        f"invert_features of {EARLY}": lambda n: explain.invert_features(
            model, photo, EARLY, steps=n, **common
        ),
        f"floor up to {EARLY} with Gram matrices": lambda n: [gram_floor() for _ in range(n)],
        f"transfer_style up to {EARLY}": lambda n: explain.transfer_style(
            model, photo, photo, steps=n, **style, **common
        ),
    }
    times = timed(loops, rounds, steps)
    titles = "ms", "x floor", "faster than eager loop", "faster than tf-keras-vis"
    heading("", *titles, title="CPU time of a step, MobileNetV2(0.35) at 96 pixels")
    others = [times.get(name) for name in SLOW]
    for name, median, ratio in beside_floors(times):
        if name.startswith("floor up"):
            others = [None, None]  # the peers use the whole network, up to the logits
        row(name, median, ratio, *[f"{1e3 * other / float(median):.1f}" if other else "" for other in others])


def large_network(rounds):
    """The functions that are used with ImageNet networks, at default settings."""
    large = keras.applications.ResNet50(weights=None)
    photo = np.random.default_rng(0).uniform(0, 255, (224, 224, 3)).astype("float32")
    layers = {"content_layer": DEEP, "style_layers": ["conv1_relu", "conv2_block3_out", DEEP]}
    deep_floor, gram_floor = floor(large, DEEP, 224), style_floor(large, layers["style_layers"], 224)
    loops = {
        f"floor up to {DEEP}": lambda n: [deep_floor() for _ in range(n)],
        f"unit_image of {DEEP}": lambda n: explain.unit_image(large, DEEP, 3, steps=n, verbose=0),
        f"deep_dream of {DEEP}": lambda n: explain.deep_dream(
            large, photo, DEEP, octaves=1, steps=n, verbose=0
        ),
        f"invert_features of {DEEP}": lambda n: explain.invert_features(
            large, photo, DEEP, steps=n, verbose=0
        ),
        f"floor up to {DEEP} with Gram matrices": lambda n: [gram_floor() for _ in range(n)],
        f"transfer_style up to {DEEP}": lambda n: explain.transfer_style(
            large, photo, photo, steps=n, **layers, verbose=0
        ),
    }
    times = timed(loops, rounds, 16)
    heading("", "ms", "x floor", title="CPU time of a step, ResNet50 at 224 pixels, defaults")
    for line in beside_floors(times):
        row(*line)


def timed(loops, rounds, steps):
    """`{name: median CPU seconds per step}`; loops that are None are left out."""
    loops = {name: loop for name, loop in loops.items() if loop}
    times = {name: [] for name in loops}
    for name, loop in loops.items():
        loop(8 if name in SLOW else min(32, 2 * steps))  # traces, and fills caches
    for _ in range(rounds):
        for name, loop in loops.items():
            count = max(8, steps // 8) if name in SLOW else steps
            # The difference of two lengths, so that the fixed cost of a call is not counted.
            long, short = spent(loop, 2 * count), spent(loop, count)
            times[name].append((long - short) / count)
    return {name: np.median(values) for name, values in times.items()}


def beside_floors(times):
    """`(name, milliseconds, multiple of the last floor above)` of each loop, as text."""
    reference = None
    for name, median in times.items():
        reference = median if name.startswith("floor") else reference
        yield name, f"{1e3 * median:.2f}", f"{median / reference:.2f}"


def spent(loop, steps):
    begun = time.process_time()
    loop(steps)
    return time.process_time() - begun


def floor(model, layer, size=96):
    """One compiled forward pass up to the layer, and the gradient."""
    if layer == "logits":
        top = model.layers[-1]
        inner = keras.Model(model.inputs[0], model.layers[-2].output)
        score = lambda x: (inner(x, training=False) @ top.kernel + top.bias)[:, 7]  # noqa: E731
    else:
        inner = keras.Model(model.inputs[0], model.get_layer(layer).output)
        score = lambda x: tf.reduce_mean(inner(x, training=False)[..., 3], (1, 2))  # noqa: E731

    return compiled_gradient(score, size)


def compiled_gradient(score, size):
    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = score(x)
        return tape.gradient(value, x)

    image = tf.random.stateless_uniform((1, size, size, 3), (0, 0), -1, 1)
    return lambda: step(image)


def style_floor(model, names, size):
    """The same with the loss of the paper: the Gram matrix of each layer, and its error."""
    inner = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])

    def score(x):
        total = 0.0
        for maps in inner(x, training=False):
            flat = tf.reshape(maps, [-1, maps.shape[-1]])
            gram = tf.matmul(flat, flat, transpose_a=True) / (maps.shape[1] * maps.shape[2])
            total += tf.reduce_sum(tf.square(gram - 1))
        return total

    return compiled_gradient(score, size)


def eager_loop(model):
    """What tutorials do: a tape and an optimizer in a Python loop."""
    inner = keras.Model(model.inputs[0], model.layers[-2].output)
    top = model.layers[-1]

    def loop(steps):
        image = tf.Variable(tf.zeros((1, 96, 96, 3)))
        optimizer = keras.optimizers.Adam(0.02)
        for _ in range(steps):
            with tf.GradientTape() as tape:
                loss = -(inner(image, training=False) @ top.kernel + top.bias)[0, 7]
            optimizer.apply([tape.gradient(loss, image)], [image])
            image.assign(tf.clip_by_value(image, -1, 1))
        return image.numpy()

    return loop


def tf_keras_vis_loop(model):
    """The same ascent by tf-keras-vis, or None if it is not installed."""
    try:
        from tf_keras_vis.activation_maximization import ActivationMaximization
        from tf_keras_vis.utils.scores import CategoricalScore
    except ImportError:
        return None

    linear = keras.models.clone_model(model)
    linear.set_weights(model.get_weights())
    linear.layers[-1].activation = keras.activations.linear
    peer = ActivationMaximization(linear, clone=False)

    def loop(steps):
        return peer(
            CategoricalScore(7), steps=steps, input_modifiers=[], regularizers=[], input_range=(-1, 1)
        )

    return loop


if __name__ == "__main__":
    main()
