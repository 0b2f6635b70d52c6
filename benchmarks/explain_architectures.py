"""Compare every attribution, on architectures of keras.applications, with oracles that were written from the papers.

Prints for each network (random weights, small images) and method the largest difference from the oracle, relative to
the oracle's largest value. The same number for an oracle with one deliberate mistake shows that the comparison can
fail. If a method refuses the network, its message is printed instead. Random methods run eagerly, and the images that
the model sees are recorded, so that the oracle uses the same noise and masks. A network takes 10 to 70 s of CPU. With
random weights a class may have the probability 0, or no positive evidence; then oracle and map are zero. In that case,
choose another class with `--target`.

    python benchmarks/explain_architectures.py --only VGG16
"""

import argparse
import functools
import time

import keras
import numpy as np
import tensorflow as tf

from recipes import explain

SIZES = {
    **dict.fromkeys(
        ("VGG16", "MobileNetV3Small", "ResNet50V2", "EfficientNetV2B0", "ConvNeXtTiny", "DenseNet121"), 64
    ),
    "Xception": 71,
    "InceptionV3": 75,
    "NASNetMobile": 64,
}
TARGET = 3  # changed by --target


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--target", type=int, choices=range(9), default=TARGET)
    arguments = parser.parse_args()
    globals()["TARGET"] = arguments.target
    for name in arguments.only:
        start = time.process_time()
        for method, verdict in study(name):
            print(f"| {name} | {method} | {verdict} |", flush=True)
        print(f"{name}: {time.process_time() - start:.0f} s CPU", flush=True)


def study(name):
    """Yield `(method, verdict)` for every method on one network."""
    keras.utils.set_random_seed(0)
    build, size = getattr(keras.applications, name), SIZES[name]
    options = {"input_shape": (size, size, 3), "weights": None, "classes": 10}
    model = build(**options)
    twin = build(**options, classifier_activation=None)
    twin.set_weights(model.get_weights())
    images = np.random.default_rng(0).uniform(1, 255, (1, size, size, 3)).astype("float32")
    for mine, other in zip(model.operations, twin.operations, strict=True):  # Keras numbers new names on
        other.name = mine.name
    for method, (run, oracle, mistaken) in cases(model, twin, images).items():
        try:
            maps = run()
        except ValueError as error:
            yield method, f"refuses: {str(error)[:150]}"
            continue
        except Exception as error:
            yield method, f"RAISES {type(error).__name__}: {str(error)[:150]}"
            continue
        right, wrong = oracle(), mistaken()
        scale = np.abs(right).max()
        if scale == 0:
            yield method, "zero, as the oracle's" if not maps.any() else "NOT ZERO, the oracle's is"
            continue
        yield (
            method,
            f"{np.abs(maps - right).max() / scale:.1e} (mistake {np.abs(wrong - right).max() / scale:.1e})",
        )


def cases(model, twin, images):
    """For each method: our map, the oracle's, and that of the oracle with a mistake."""
    cache = {}

    def chosen(method="grad_cam"):
        if method not in cache:
            cache[method] = getattr(explain, method)(
                model,
                images,
                TARGET,
                resize=False,
                return_layer=True,
                **({"relu": False} if method == "grad_cam" else {}),
            )
        return cache[method]

    seen = {}

    def noted(method, **options):
        """Run a random method, and collect in `seen` the images that the model saw."""
        seen[method], call = [], model.call

        def noting(inputs, *args, **kwargs):
            seen[method].append(np.asarray(inputs))
            return call(inputs, *args, **kwargs)

        model.call = noting
        try:
            return getattr(explain, method)(model, images, TARGET, compile=False, **options)
        finally:
            del model.call

    def noisy():
        """The noisy copies that `smooth_grad` made; the noise is 15 % of the range of the image."""
        copies = np.concatenate(seen["smooth_grad"])
        deviation = (copies - images).std() / (images.max() - images.min())
        return copies if len(copies) == 4 and abs(deviation - 0.15) < 0.005 else copies * np.nan

    @functools.cache
    def sign():
        """The sign, 1 or -1, for which there is positive evidence."""
        return 1.0 if by_scores(twin, images, chosen()[1], 1.0).any() else -1.0

    def cam():
        return positive(
            weighed(twin, images, chosen()[1], lambda a, g: (a * g.mean((1, 2), keepdims=True)).sum(-1))
        )

    return {
        "saliency": (
            lambda: explain.saliency(model, images, TARGET),
            lambda: np.abs(gradient(twin, images)).max(-1),
            lambda: np.abs(gradient(model, images)).max(-1),  # of the probability
        ),
        "integrated_gradients": (
            lambda: explain.integrated_gradients(model, images, TARGET, steps=2, method="midpoint"),
            lambda: path(twin, images, (0.25, 0.75), True),
            lambda: path(twin, images, (0.25, 0.75), False),  # without the factor x
        ),
        "guided_backprop": (
            lambda: explain.guided_backprop(model, images, TARGET),
            lambda: np.abs(guided(twin, images)).max(-1),
            lambda: np.abs(gradient(twin, images)).max(-1),  # the plain gradient
        ),
        "grad_cam": (
            lambda: chosen()[0],
            lambda: weighed(
                twin, images, chosen()[1], lambda a, g: (a * g.mean((1, 2), keepdims=True)).sum(-1)
            ),
            lambda: weighed(
                twin, images, chosen()[1], lambda a, g: (a * g.sum((1, 2), keepdims=True) ** 2).sum(-1)
            ),
        ),
        "layer_cam": (
            lambda: chosen("layer_cam")[0],
            lambda: weighed(
                twin, images, chosen("layer_cam")[1], lambda a, g: positive((a * positive(g)).sum(-1))
            ),
            lambda: weighed(twin, images, chosen("layer_cam")[1], lambda a, g: positive((a * g).sum(-1))),
        ),
        "class_activation_map": (
            lambda: explain.class_activation_map(model, images, TARGET, resize=False),
            lambda: class_weights(twin, images, chosen()[1], TARGET),
            lambda: class_weights(twin, images, chosen()[1], TARGET + 1),  # another class
        ),
        "deconvnet": (
            lambda: explain.deconvnet(model, images, TARGET),
            lambda: np.abs(guided(twin, images, gated=False)).max(-1),
            lambda: np.abs(guided(twin, images)).max(-1),  # guided backpropagation
        ),
        "guided_grad_cam": (
            lambda: explain.guided_grad_cam(model, images, TARGET),
            lambda: np.abs(guided(twin, images)).max(-1) * enlarged(cam(), images),
            lambda: np.abs(gradient(twin, images)).max(-1) * enlarged(cam(), images),
        ),
        "grad_cam_plus_plus": (
            lambda: chosen("grad_cam_plus_plus")[0],
            lambda: weighed(twin, images, chosen("grad_cam_plus_plus")[1], plus_plus),
            lambda: weighed(
                twin, images, chosen("grad_cam_plus_plus")[1], lambda a, g: plus_plus(a, g, False)
            ),
        ),
        "score_cam": (
            lambda: explain.score_cam(
                model,
                images,
                lambda outputs: sign() * outputs[:, TARGET],
                score="logits",
                top=8,
                resize=False,
            ),
            lambda: by_scores(twin, images, chosen()[1], sign()),
            lambda: by_scores(twin, images, chosen()[1], sign(), stretched=False),
        ),
        "smooth_grad": (
            lambda: noted("smooth_grad", samples=4),
            lambda: np.abs(np.mean([gradient(twin, one[None]) for one in noisy()], axis=0)).max(-1),
            lambda: np.mean([np.abs(gradient(twin, one[None])) for one in noisy()], axis=0).max(-1),
        ),
        "rise": (
            lambda: noted("rise", masks=12),
            lambda: by_masks(model, images, seen["rise"], 0.5),
            lambda: by_masks(model, images, seen["rise"], 1.0),  # without the expected mask
        ),
        "occlusion": (
            lambda: explain.occlusion(model, images, TARGET, patch=32, stride=32),
            lambda: covered(twin, images, 0.0),
            lambda: covered(twin, images, 1.0),  # another color
        ),
    }


def positive(values):
    return np.maximum(values, 0)


def gradient(model, images):
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = model(images, training=False)[:, TARGET]
    return tape.gradient(score, images).numpy()


def path(model, images, places, times_input):
    mean = np.mean([gradient(model, place * images) for place in places], axis=0)
    return (mean * (images if times_input else 1)).sum(-1)


def guided(model, images, gated=True):
    """The gradient while `tf.nn.relu` is replaced by a ReLU whose gradient is cut as in the paper.

    Without `gated`, the gradient is cut as in the deconvnet paper.
    """

    @tf.custom_gradient
    def relu(x):
        return tf.maximum(x, 0.0), lambda g: tf.maximum(g, 0.0) * (tf.cast(x > 0, g.dtype) if gated else 1)

    before = tf.nn.relu
    tf.nn.relu = lambda x, name=None: relu(x)
    try:
        return gradient(model, images)
    finally:
        tf.nn.relu = before


def weighed(twin, images, name, combine):
    """A class activation map from a sub-model whose outputs are the layer and the logits."""
    lower = keras.Model(twin.inputs, [named(twin, name).output, twin.output])
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)  # so that the tape records the layer's output
        activations, logits = lower(images, training=False)
        score = logits[:, TARGET]
    return combine(activations.numpy(), tape.gradient(score, activations).numpy())


def plus_plus(activations, gradients, shares=True):
    """Equations 5, 7 and 19; without `shares`, every positive gradient counts alike."""
    alpha = gradients**2 / np.where(
        gradients == 0, 1, 2 * gradients**2 + activations.sum((1, 2), keepdims=True) * gradients**3
    )
    alpha = alpha / np.where(alpha.sum((1, 2), keepdims=True) == 0, 1, alpha.sum((1, 2), keepdims=True))
    weights = ((alpha if shares else 1) * positive(gradients)).sum((1, 2), keepdims=True)
    return positive((activations * weights).sum(-1))


def enlarged(maps, images):
    return tf.image.resize(maps[..., None], images.shape[1:3])[..., 0].numpy()


def by_scores(twin, images, name, sign, stretched=True):
    """Score-CAM of the eight channels that vary most; the mistake is to use masks that are not normalized."""
    activations = keras.Model(twin.inputs, named(twin, name).output)(images, training=False).numpy()
    chosen = np.argsort(-activations.std((1, 2))[0], kind="stable")[:8]
    nothing = twin(np.zeros_like(images), training=False).numpy()[0, TARGET]
    total = 0.0
    for channel in chosen:
        mask = enlarged(activations[..., channel], images)
        low, high = mask.min(), mask.max()
        if stretched:
            mask = (mask - low) / (high - low) if high > low else 0 * mask
        weight = sign * (twin(images * mask[..., None], training=False).numpy()[0, TARGET] - nothing)
        total = total + weight * activations[..., channel]
    return positive(total)


def by_masks(model, images, seen, keep):
    """RISE: the masks are computed from the masked images that the model saw, divided by the image."""
    copies = np.concatenate(seen)
    masks = (copies / images).mean(-1)
    scores = model(copies, training=False).numpy()[:, TARGET]
    return (scores[:, None, None] * masks).sum(0, keepdims=True) / (len(masks) * keep)


def named(model, name):
    return next(one for one in model.operations if one.name == name)


def class_weights(twin, images, name, number):
    activations = keras.Model(twin.inputs, named(twin, name).output)(images, training=False).numpy()
    dense = [layer for layer in twin.layers if isinstance(layer, keras.layers.Dense)][-1]
    return activations @ dense.kernel.numpy()[:, number]


def covered(twin, images, value):
    size = images.shape[1]
    starts = sorted({*range(0, size - 31, 32), size - 32})
    total, count = np.zeros((1, size, size)), np.zeros((size, size))
    before = twin(images, training=False).numpy()[:, TARGET]
    for top in starts:
        for left in starts:
            hidden = images.copy()
            hidden[:, top : top + 32, left : left + 32] = value
            total[:, top : top + 32, left : left + 32] += (
                before - twin(hidden, training=False).numpy()[:, TARGET]
            )[:, None, None]
            count[top : top + 32, left : left + 32] += 1
    return total / count


if __name__ == "__main__":
    main()
