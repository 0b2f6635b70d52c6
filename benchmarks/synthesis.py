"""Time a step of synthesis against the floor, the usual eager loop and tf-keras-vis, in one interleaved run.

    python benchmarks/synthesis.py                       # about five minutes on two cores
    python benchmarks/synthesis.py --quick

The floor is one compiled forward pass and gradient of the part of the network that a step needs. All times are
CPU seconds of
this process a step (medians over interleaved rounds, so that a busy machine disturbs all alike), after warming up. The
network is MobileNetV2 with alpha 0.35 at 96 pixels and random weights, whose values do not matter here;
tf-keras-vis runs
without its regularizers and input modifiers, and ours with the default views and Fourier coefficients as well as bare.
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

EARLY = "block_6_expand"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--steps", type=int, default=64, help="steps a round")
    parser.add_argument("--quick", action="store_true", help="two rounds of 16 steps")
    arguments = parser.parse_args()
    rounds, steps = (2, 16) if arguments.quick else (arguments.rounds, arguments.steps)

    model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=1000)
    bare = {"parameterization": "pixels", "optimizer": "adam", "learning_rate": 0.02, "l2": 0.0}
    common = {"value_range": (-1, 1), "verbose": 0}
    photo = np.random.default_rng(0).uniform(-1, 1, (96, 96, 3)).astype("float32")
    style = {"content_layer": EARLY, "style_layers": ["Conv1", EARLY]}

    class_floor, unit_floor = floor(model, "logits"), floor(model, EARLY)
    loops = {
        "floor: forward + gradient": lambda n: [class_floor() for _ in range(n)],
        "class_image, pixels": lambda n: explain.class_image(model, 7, steps=n, **bare, **common),
        "class_image, Fourier and views": lambda n: explain.class_image(model, 7, steps=n, **common),
        "eager loop": eager_loop(model),
        "tf-keras-vis ActivationMaximization": tf_keras_vis_loop(model),
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
        f"transfer_style up to {EARLY}": lambda n: explain.transfer_style(
            model, photo, photo, steps=n, **style, **common
        ),
    }
    times = {name: [] for name in loops}
    for loop in loops.values():
        if loop:
            loop(32)  # traces, and fills caches
    for _ in range(rounds):
        for name, loop in loops.items():
            if loop:
                # Two lengths, so that what a call costs once is not counted as steps.
                long, short = spent(loop, 2 * steps), spent(loop, steps)
                times[name].append((long - short) / steps)
    heading("CPU time of a step", "ms", "x floor", "faster than eager loop", "faster than tf-keras-vis")
    medians = {name: np.median(values) for name, values in times.items() if values}
    reference = None
    for name, median in medians.items():
        reference = median if name.startswith("floor") else reference
        others = [medians.get(other) for other in ("eager loop", "tf-keras-vis ActivationMaximization")]
        ratios = [f"{other / median:.1f}" if other else "" for other in others]
        row(name, f"{1e3 * median:.2f}", f"{median / reference:.2f}", *ratios)


def spent(loop, steps):
    begun = time.process_time()
    loop(steps)
    return time.process_time() - begun


def floor(model, layer):
    """One compiled forward pass and gradient, up to the layer."""
    if layer == "logits":
        top = model.layers[-1]
        inner = keras.Model(model.inputs[0], model.layers[-2].output)
        score = lambda x: (inner(x, training=False) @ top.kernel + top.bias)[:, 7]  # noqa: E731
    else:
        inner = keras.Model(model.inputs[0], model.get_layer(layer).output)
        score = lambda x: tf.reduce_mean(inner(x, training=False)[..., 3], (1, 2))  # noqa: E731

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = score(x)
        return tape.gradient(value, x)

    image = tf.random.stateless_uniform((1, 96, 96, 3), (0, 0), -1, 1)
    return lambda: step(image)


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
    """The same ascent by tf-keras-vis, or None where it is not installed."""
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
