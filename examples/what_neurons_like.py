"""See what excites the channels of a network: synthesized images beside the patches of photos that excite them most.

    python examples/what_neurons_like.py                 # about two minutes on two cores
    python examples/what_neurons_like.py --photos my_photos/ --layer stage5_block1_expand_norm

Writes runs/what_neurons_like/filters.png (the weights of the first layer), maps.png (its activations for one photo) and
one picture per layer. Each row of it is a channel: first an image that was made to excite the channel, then the
patches of photos that excite it most.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import explain, models, plot

LAYERS = ["stage2_block2_expand_norm", "stage4_block2_expand_norm"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", action="append", help=f"layers of EfficientNet-Lite0; by default {LAYERS}")
    parser.add_argument(
        "--channels", type=int, default=6, help="channels of each layer, the most active ones"
    )
    parser.add_argument(
        "--photos", type=Path, help="a folder of photos (default: those of scikit-image and scikit-learn)"
    )
    parser.add_argument("--steps", type=int, default=128, help="steps of gradient ascent")
    parser.add_argument("--quick", action="store_true", help="one layer, two channels, two steps")
    parser.add_argument("--out", type=Path, default=Path("runs/what_neurons_like"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen, crops = arguments.layer or LAYERS, 24
    if arguments.quick:
        chosen, arguments.channels, arguments.steps, crops = chosen[:1], 2, 2, 2

    model = models.efficientnet_lite0()
    images = crops_of(photos(arguments.photos), crops, side=224)
    print(f"{len(images)} crops of photos")
    plot.channels(explain.filters(model), title="stem_conv: filters").savefig(
        arguments.out / "filters.png", dpi=100
    )
    maps = explain.activations(model, images[0], "stem_relu6")[0]
    plot.channels(maps, title="stem_relu6: activations").savefig(arguments.out / "maps.png", dpi=100)

    for layer in chosen:
        strength = explain.features(model, images, layer, pool="max").mean(0)
        channels = [int(channel) for channel in np.argsort(-strength)[: arguments.channels]]
        found = explain.maximal_patches(model, images, layer, channels, k=6)
        made = explain.unit_image(model, layer, channels, steps=arguments.steps, learning_rate=0.05)
        field = explain.receptive_field(model, layer)
        reached = explain.features(model, made, layer, pool="max")[np.arange(len(channels)), channels]
        print(f"{layer}: receptive field {field.size[0]} x {field.size[1]} pixels")
        for channel, scores, score in zip(channels, found.scores, reached, strict=True):
            print(
                f"  channel {channel:4d}: activation {scores[0]:6.2f} for the best patch, {score:6.2f} for the image"
            )
        figure = plot.patches(found, unit_images=made, titles=channels, size=1.3, title=layer)
        figure.savefig(arguments.out / f"{layer}.png", dpi=100)
    print(f"Look at {arguments.out}: do the image and the patches in a row show the same thing?")


def photos(folder):
    """Photos as uint8 arrays of any size."""
    if folder:
        return [keras.utils.img_to_array(keras.utils.load_img(path)) for path in sorted(folder.iterdir())]
    import skimage.data
    import sklearn.datasets

    named = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
    return [getattr(skimage.data, name)() for name in named] + sklearn.datasets.load_sample_images().images


def crops_of(images, count, side):
    """Square crops of many sizes and positions, resized to `(n, side, side, 3)` float32."""
    generator, crops = np.random.default_rng(0), []
    for image in images:
        for _ in range(count):
            length = generator.integers(min(image.shape[:2]) // 3, min(image.shape[:2]))
            top, left = (generator.integers(size - length + 1) for size in image.shape[:2])
            crop = image[top : top + length, left : left + length]
            crops.append(
                keras.ops.convert_to_numpy(keras.ops.image.resize(crop, (side, side), antialias=True))
            )
    return np.clip(np.stack(crops), 0, 255).astype("float32")


if __name__ == "__main__":
    main()
