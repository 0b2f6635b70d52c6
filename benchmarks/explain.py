"""What an explanation costs, compared with the passes over the network that it needs, and with other libraries.

    python benchmarks/explain.py                         MobileNetV2(0.35) 96 px and ResNet50 224 px: twelve minutes
    python benchmarks/explain.py --only mobilenet        the first only, with tf-keras-vis and tf-explain: minutes
    python benchmarks/explain.py --quick                 a few rounds of the cheap methods: a minute

The floor of a method is the number of compiled forward passes (F), or forward passes with input gradient (FG), that its
definition needs, run in the same chunks. SmoothGrad with 25 samples needs 25 FG. Score-CAM with 64 channels needs 66 F,
because it also evaluates the image and the baseline. Finer-CAM needs 1 F: the head's forward pass gives the similar
classes. LRP is given 2 FG, because its rules use the positive part of each convolution, and another part if the input
has both signs: three to five products, where FG has two. FGL, for integrated gradients at a layer, is the gradient of
only the layers above it, after a forward pass of image and baseline. Methods, floors and peers take turns, so that
other load on the machine affects all alike; figures are medians over the rounds. `ratio` compares the CPU time of this
process, `ms` is wall time, `first` is the first call on a fresh model, in seconds, with tracing.
"""

import argparse
import contextlib
import gc
import io
import math
import os
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import explain

CHUNK = 64
# name: (method, options, unit of the floor, evaluations per image)
METHODS = {
    "saliency": (explain.saliency, {}, "FG", 1),
    "grad_cam": (explain.grad_cam, {}, "F", 1),
    "grad_cam_plus_plus": (explain.grad_cam_plus_plus, {}, "F", 1),
    "layer_cam": (explain.layer_cam, {}, "F", 1),
    "class_activation_map": (explain.class_activation_map, {}, "F", 1),
    "smooth_grad(25)": (explain.smooth_grad, {"samples": 25}, "FG", 25),
    "integrated_gradients(50)": (explain.integrated_gradients, {"steps": 50}, "FG", 50),
    "guided_backprop": (explain.guided_backprop, {}, "FG", 1),
    "score_cam(top=64)": (explain.score_cam, {"top": 64}, "F", 66),
    "occlusion(1/6, 1/12)": (explain.occlusion, {}, "F", 122),
    "rise(200)": (explain.rise, {"masks": 200}, "F", 200),
    "hires_cam": (explain.hires_cam, {}, "F", 1),
    "xgrad_cam": (explain.xgrad_cam, {}, "F", 1),
    "eigen_cam": (explain.eigen_cam, {}, "F", 1),
    "finer_cam": (explain.finer_cam, {}, "F", 1),
    "ablation_cam(top=64)": (explain.ablation_cam, {"top": 64}, "F", 65),
    "expected_gradients(50)": (explain.expected_gradients, {"samples": 50}, "FG", 50),
    "lrp": (explain.lrp, {}, "FG", 2),
    "layer_integrated_gradients(50)": (explain.layer_integrated_gradients, {"steps": 50}, "FGL", 50),
}
# For a vision transformer.
OF_ATTENTION = {
    "saliency": (explain.saliency, {}, "FG", 1),
    "attention_rollout": (explain.attention_rollout, {}, "F", 1),
    "attention_relevance": (explain.attention_relevance, {}, "FG", 1),
    "grad_cam": (explain.grad_cam, {"layer": "block10"}, "F", 1),
}
MOST_PASSES = {"mobilenet": 4000, "resnet": 200}  # rows with more evaluations take long and show nothing new
LAST_MAP = {"mobilenet": "out_relu", "resnet": "conv5_block3_out"}
LONGEST = 40  # seconds of measuring per row
QUICK = ("saliency", "grad_cam", "smooth_grad(25)", "integrated_gradients(50)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["mobilenet", "resnet"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=9, help="measurements per variant")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS))
    arguments = parser.parse_args()
    methods = arguments.methods or (QUICK if arguments.quick else list(METHODS))
    rounds = 3 if arguments.quick else arguments.rounds
    for name, build in {"mobilenet": mobilenet, "resnet": resnet}.items():
        if arguments.only in (None, name) and not (arguments.quick and name == "resnet"):
            for batch in arguments.batches:
                floors_table(name, build, batch, methods, rounds)
            if name == "mobilenet" and not arguments.methods:
                attention_table(rounds)
                new_batch_size(build)
                peers_table(build, rounds, arguments.quick)


def mobilenet():
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None), 96


def resnet():
    return keras.applications.ResNet50(weights=None), 224


def pictures(size, batch):
    return np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype("float32")


def floors_table(name, build, batch, methods, rounds):
    """Our methods compared with their floors."""
    model, size = build()
    images = pictures(size, batch)
    floors = {"F": compiled_forward(model), "FG": compiled_gradient(model)}
    floors["FGL"] = CompiledAbove(model, LAST_MAP[name])
    passes = {
        unit: lap(lambda f=floors[unit]: f(tf.constant(images)))[1] for unit in ("F", "FG") for _ in range(2)
    }
    network = {"mobilenet": "MobileNetV2(0.35) at 96 pixels", "resnet": "ResNet50 at 224 pixels"}[name]
    title = f"{network}, batch {batch}: F {passes['F'] * 1e3:.1f} ms, FG {passes['FG'] * 1e3:.1f} ms"
    heading("", "floor", "floor, ms", "ms", "ratio", "first call, s", title=title)
    for title in methods:
        method, options, unit, evaluations = METHODS[title]
        if title.startswith("occlusion"):
            options = {"patch": size // 6, "stride": size // 12}
            # One more window at the border if the stride does not end there, and the image itself.
            evaluations = (1 + math.ceil((size - size // 6) / (size // 12))) ** 2 + 1
        if evaluations * batch > MOST_PASSES[name]:
            continue
        options = {**options, "verbose": 0}
        if title.startswith("expected"):
            options["background"] = pictures(size, 8)
        fresh, _ = build()
        first = lap(lambda m=fresh, f=method, o=options: f(m, images, **o))[1]
        del fresh
        gc.collect()

        many = tf.constant(pictures(size, min(CHUNK, evaluations * batch)))

        def floor(one=floors[unit], many=many, total=evaluations * batch, unit=unit):
            if unit == "FGL":
                one(tf.constant(images))
                return
            for start in range(0, total, CHUNK):
                one(many[: min(CHUNK, total - start)])

        method(model, images, **options)
        costs = interleave(
            {"floor": floor, "ours": lambda m=model, f=method, o=options: f(m, images, **o)}, rounds
        )
        (floor_cpu, floor_wall), (cpu, wall) = costs["floor"], costs["ours"]
        milliseconds = f"{floor_wall * 1e3:.1f}", f"{wall * 1e3:.1f}"
        row(title, f"{evaluations} {unit}", *milliseconds, f"{cpu / floor_cpu:.2f}", f"{first:.1f}")


def attention_table(rounds):
    """Methods for transformers compared with their floors."""
    model, size = vision_transformer()
    images = pictures(size, 1)
    floors = {"F": compiled_forward(model), "FG": compiled_gradient(model)}
    title = "Vision transformer (12 blocks of 192 channels, patches of 16) at 224 pixels, batch 1"
    heading("", "floor", "floor, ms", "ms", "ratio", title=title)
    for name, (method, options, unit, evaluations) in OF_ATTENTION.items():
        method(model, images, **options)
        costs = interleave(
            {
                "floor": lambda one=floors[unit]: one(tf.constant(images)),
                "ours": lambda f=method, o=options: f(model, images, verbose=0, **o),
            },
            rounds,
        )
        (floor_cpu, floor_wall), (cpu, wall) = costs["floor"], costs["ours"]
        milliseconds = f"{floor_wall * 1e3:.1f}", f"{wall * 1e3:.1f}"
        row(name, f"{evaluations} {unit}", *milliseconds, f"{cpu / floor_cpu:.2f}")


def vision_transformer():
    """ViT-Ti/16 of Touvron et al. 2021, without a class token; attention scores are returned only on request."""
    layers, x = keras.layers, keras.Input((224, 224, 3))
    image, x = x, layers.Reshape((196, 192))(layers.Conv2D(192, 16, 16)(x))
    for number in range(12):
        normed = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(3, 64)(normed, normed)])
        hidden = layers.Dense(768, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add(name=f"block{number}")([x, layers.Dense(192)(hidden)])
    return keras.Model(
        image, layers.Dense(1000, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    ), 224


def new_batch_size(build):
    """How much more the first call with a new batch size costs than the second one."""
    model, size = build()
    explain.saliency(model, pictures(size, 3))
    explain.grad_cam(model, pictures(size, 3))
    print()
    for method in (explain.saliency, explain.grad_cam):
        images = pictures(size, 7)
        first, warm = (lap(lambda m=method, x=images: m(model, x))[1] for _ in range(2))
        print(f"{method.__name__}: a new batch size costs {first - warm:.2f} s more than its repeat")


def peers_table(build, rounds, quick):
    """Our methods compared with other libraries on the same model and image, batch size 1."""
    model, size = build()
    linear = keras.models.clone_model(model)
    linear.layers[-1].activation = keras.activations.linear
    linear.set_weights(model.get_weights())
    image = pictures(size, 1)
    rows = {}
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
        from tf_keras_vis.layercam import Layercam
        from tf_keras_vis.saliency import Saliency
        from tf_keras_vis.scorecam import Scorecam
        from tf_keras_vis.utils.scores import CategoricalScore

        score = CategoricalScore([3])
        theirs, cam = Saliency(linear, clone=False), Gradcam(linear, clone=False)
        plus, masked = GradcamPlusPlus(linear, clone=False), Scorecam(linear, clone=False)
        by_layer = Layercam(linear, clone=False)
        rows |= {
            ("tf-keras-vis", "saliency"): lambda: theirs(score, image),
            ("tf-keras-vis", "smooth_grad(25)"): lambda: theirs(score, image, smooth_samples=25),
            ("tf-keras-vis", "grad_cam"): lambda: cam(score, image),
            ("tf-keras-vis", "grad_cam_plus_plus"): lambda: plus(score, image),
            ("tf-keras-vis", "layer_cam"): lambda: by_layer(score, image),
            ("tf-keras-vis", "score_cam(top=64)"): lambda: masked(score, image, max_N=64),
        }
    with contextlib.suppress(ImportError):
        from tf_explain.core.grad_cam import GradCAM
        from tf_explain.core.integrated_gradients import IntegratedGradients
        from tf_explain.core.occlusion_sensitivity import OcclusionSensitivity
        from tf_explain.core.smoothgrad import SmoothGrad
        from tf_explain.core.vanilla_gradients import VanillaGradients

        data = (image, None)
        rows |= {
            ("tf-explain", "saliency"): lambda: VanillaGradients().explain(data, linear, 3),
            ("tf-explain", "smooth_grad(25)"): lambda: SmoothGrad().explain(data, linear, 3, num_samples=25),
            ("tf-explain", "integrated_gradients(50)"): lambda: IntegratedGradients().explain(
                data, linear, 3, n_steps=50
            ),
            ("tf-explain", "grad_cam"): lambda: GradCAM().explain(data, linear, 3, layer_name="out_relu"),
            ("tf-explain", "occlusion(16, 16)"): lambda: OcclusionSensitivity().explain(data, linear, 3, 16),
        }
    methods = {**METHODS, "occlusion(16, 16)": (explain.occlusion, {"patch": 16, "stride": 16}, "F", 36)}
    heading(
        "",
        "theirs, ms",
        "ours, ms",
        "wall",
        "CPU",
        title="MobileNetV2(0.35) at 96 pixels, batch 1, beside other libraries",
    )
    for (library, title), run in rows.items():
        if quick and title not in QUICK:
            continue
        method, options, _, _ = methods[title]

        def ours(method=method, options=options):
            method(model, image, 3, **options, verbose=0)

        def quiet(run=run):
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                run()

        try:
            quiet()
        except Exception as error:  # a peer that does not run on this version of Keras is named, not hidden
            row(f"{library} {title}", f"does not run here: {type(error).__name__}", "", "", "")
            continue
        ours()
        costs = interleave({"theirs": quiet, "ours": ours}, max(3, rounds // 2))
        (their_cpu, their_wall), (cpu, wall) = costs["theirs"], costs["ours"]
        milliseconds = f"{their_wall * 1e3:.1f}", f"{wall * 1e3:.1f}"
        row(f"{library} {title}", *milliseconds, f"{their_wall / wall:.1f}", f"{their_cpu / cpu:.1f}")


def compiled_forward(model):
    return tf.function(lambda x: model(x, training=False), reduce_retracing=True)


def compiled_gradient(model):
    @tf.function(reduce_retracing=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = tf.reduce_max(model(x, training=False), axis=1)
        return tape.gradient(score, x)

    return gradient


class CompiledAbove:
    """What integrated gradients at a layer needs: two forward passes up to it, and 50 gradients of the layers above, in
    chunks."""

    def __init__(self, model, layer):
        below = keras.Model(model.inputs, model.get_layer(layer).output)
        head = keras.models.clone_model(keras.Model(model.get_layer(layer).output, model.output))
        self.maps = tf.function(lambda x: below(x, training=False), reduce_retracing=True)

        @tf.function(reduce_retracing=True)
        def gradient(maps):
            with tf.GradientTape() as tape:
                tape.watch(maps)
                score = tf.reduce_max(head(maps, training=False), axis=1)
            return tape.gradient(score, maps)

        self.gradient = gradient

    def __call__(self, images):
        maps = self.maps(tf.concat([images, images], 0))[: len(images)]
        most = max(1, CHUNK // len(images))
        for start in range(0, 50, most):
            found = self.gradient(tf.repeat(maps, min(most, 50 - start), axis=0))
        return found


def interleave(variants, rounds, least=0.15):
    """`{name: (CPU seconds, wall seconds)}` per call: medians over rounds; the variants take turns."""
    alone = {name: max(lap(run)[1], 1e-6) for name, run in variants.items()}
    repeats = {name: max(1, int(least / seconds)) for name, seconds in alone.items()}
    laps = {name: [] for name in variants}
    for _ in range(min(rounds, max(2, int(LONGEST / sum(alone.values()))))):
        for name, run in variants.items():
            laps[name].append(lap(run, repeats[name]))
    return {name: tuple(np.median(values, axis=0)) for name, values in laps.items()}


def lap(run, repeats=1):
    """CPU and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        result = run()
    if isinstance(result, tf.Tensor):
        result.numpy()
    return (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats


if __name__ == "__main__":
    main()
