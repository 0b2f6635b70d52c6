"""Explain what a network sees in a photo by twenty-two attribution methods, and measure which map to trust.

    python examples/explain_photo.py                        # scikit-image's photo of the cat Chelsea, three minutes
    python examples/explain_photo.py dog_and_cat.jpg
    python examples/explain_photo.py dog_and_cat.jpg --target "tabby"     # why did it see (or not see) this?
    python examples/explain_photo.py --methods Saliency Grad-CAM          # only some of the methods

Prints two areas for each method and for a random map. The deletion curve is the probability while the most important
pixels turn gray: a small area is good. The insertion curve is the probability while these pixels come back into the
blurred photo: a large area is good. Writes all maps with these areas to runs/explain_photo/maps.png. The network is
EfficientNet-Lite0; its ImageNet weights come with the extra `pretrained`.
"""

import argparse
import inspect
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import explain, models, plot

SIDE = 224
GRAY = 127.0  # what a removed pixel shows, in the middle of the photo's 0..255
METHODS = {
    "Saliency": (explain.saliency, {}),
    "Gradient x input": (explain.gradient_times_input, {}),
    "SmoothGrad": (explain.smooth_grad, {"samples": 25}),
    "Integrated gradients": (
        explain.integrated_gradients,
        {"steps": 32, "baseline": "blur", "reduce": "absmax"},
    ),
    "Deconvnet": (explain.deconvnet, {}),
    "Guided backprop": (explain.guided_backprop, {}),
    "Guided Grad-CAM": (explain.guided_grad_cam, {}),
    "CAM": (explain.class_activation_map, {}),
    "Grad-CAM": (explain.grad_cam, {}),
    "Grad-CAM++": (explain.grad_cam_plus_plus, {}),
    "LayerCAM (stage 5)": (explain.layer_cam, {"layer": "stage5_block1_expand_relu6"}),
    "Score-CAM": (explain.score_cam, {"top": 64, "baseline": GRAY}),
    "Occlusion": (explain.occlusion, {"patch": 40, "stride": 16, "value": "mean"}),
    "RISE": (explain.rise, {"masks": 500, "baseline": GRAY}),
    "HiResCAM": (explain.hires_cam, {}),
    "XGrad-CAM": (explain.xgrad_cam, {}),
    "Eigen-CAM": (explain.eigen_cam, {}),
    "Ablation-CAM": (explain.ablation_cam, {"top": 64}),
    "Finer-CAM": (explain.finer_cam, {}),
    "LRP": (explain.lrp, {}),
    "Expected gradients": (explain.expected_gradients, {"samples": 50, "reduce": "absmax"}),
    "Layer int. gradients": (explain.layer_integrated_gradients, {"steps": 16, "as_map": True}),
}
QUICK = ("Saliency", "CAM", "Grad-CAM")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", nargs="?", help="an image file (default: scikit-image's cat)")
    parser.add_argument(
        "--target", help="a class name of ImageNet, or a part of one (default: the predicted class)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=list(METHODS),
        metavar="NAME",
        help="only these methods",
    )
    parser.add_argument("--quick", action="store_true", help="three methods and few steps")
    parser.add_argument("--out", type=Path, default=Path("runs/explain_photo"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'three minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    photo = read(arguments.photo)
    model, names = models.efficientnet_lite0(), models.imagenet_class_names()
    probabilities = model.predict(photo[None], verbose=0)[0]
    target = int(probabilities.argmax()) if arguments.target is None else find(arguments.target, names)
    print(f"explaining '{names[target]}', probability {probabilities[target]:.1%}\n")

    maps, captions, layers = {}, {}, {}
    steps = 8 if arguments.quick else 40
    print(f"{'':24}{'deletion':>10}{'insertion':>11}{'seconds':>9}")
    for title in QUICK if arguments.quick else arguments.methods:
        method, options = METHODS[title]
        if method is explain.expected_gradients:
            options = {**options, "background": others()}
        start = time.perf_counter()
        if "return_layer" in inspect.signature(method).parameters:
            maps[title], layers[title] = method(model, photo, target, return_layer=True, **options)
        else:
            maps[title] = method(model, photo, target, **options)
        report(model, photo, target, title, maps[title], steps, time.perf_counter() - start, captions)
    chance = np.random.default_rng(0).random((SIDE, SIDE), dtype="float32")
    report(model, photo, target, "a random map", chance, steps, 0.0, {})

    if layers:
        print("\n" + "\n".join(f"{title} at layer {layer}" for title, layer in layers.items()))
    figure = figure_of(photo, maps, captions, layers, f"{names[target]}, {probabilities[target]:.1%}")
    figure.savefig(arguments.out / "maps.png", dpi=110)
    print(f"\nLook at {arguments.out / 'maps.png'}: trust only methods that are better than the random map.")


def report(model, photo, target, title, one, steps, seconds, captions):
    """Print a method's scores and keep them for the figure."""
    gone = explain.deletion(model, photo, one, target, steps=steps, baseline=GRAY).area
    back = explain.insertion(model, photo, one, target, steps=steps, baseline="blur").area
    print(f"{title:24}{gone:10.3f}{back:11.3f}{seconds:9.1f}", flush=True)
    captions[title] = f"deletion {gone:.2f}, insertion {back:.2f}"


def figure_of(photo, maps, captions, layers, title):
    """The photo and its maps, five in a row: fine maps alone, coarse ones over the photo."""
    where = {name: f"\n{layers[name]}" if name in layers else "" for name in maps}
    texts = [f"photo\n{title}", *(f"{name}\n{captions[name]}{where[name]}" for name in maps)]
    return plot.grid([photo] * len(texts), maps=[None, *maps.values()], titles=texts, columns=5, size=1.9)


def others():
    """Two other photos `(2, 224, 224, 3)`, the background of expected gradients."""
    from skimage import data

    squares = (keras.utils.array_to_img(photo) for photo in (data.astronaut(), data.coffee()[:, 100:500]))
    return np.stack([np.asarray(square.resize((SIDE, SIDE))) for square in squares])


def find(text, names):
    """The class whose name has `text` in it."""
    found = [number for number, name in enumerate(names) if text.lower() in name.lower()]
    if not found:
        raise SystemExit(
            f"--target expects a part of an ImageNet class name. Received {text!r}. Try 'tabby' or "
            "'retriever'."
        )
    exact = [number for number in found if names[number].lower().split(",")[0] == text.lower()]
    return (exact or found)[0]


def read(path):
    """The largest central square of a photo as `(224, 224, 3)` uint8; without a path, that of the cat."""
    if path is None:
        from skimage import data

        photo = data.chelsea()
        left = (photo.shape[1] - photo.shape[0]) // 2
        square = keras.utils.array_to_img(photo[:, left : left + photo.shape[0]])
        return np.asarray(square.resize((SIDE, SIDE)))
    loaded = keras.utils.load_img(
        path, target_size=(SIDE, SIDE), interpolation="bicubic", keep_aspect_ratio=True
    )
    return np.asarray(loaded)


if __name__ == "__main__":
    main()
