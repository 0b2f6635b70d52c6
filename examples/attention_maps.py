"""Where a vision transformer looks: attention rollout, relevance, and Grad-CAM on its tokens.

    python examples/attention_maps.py            # two minutes on two cores

A small vision transformer (Dosovitskiy et al. 2020) with a class token learns scikit-learn's digits. Each digit is at a
random place of a larger noisy canvas, so that the network has to find it. Rollout says where attention flows, whatever
the class. Relevance (Chefer et al. 2021) weights the attention by the gradient of the class. Grad-CAM reads the tokens
that the last block attends to, and finds their grid by itself (after that block only the class token has a gradient).
Prints how much of each map lies on the digit, and how much of the canvas the digit covers. Writes
runs/attention_maps/maps.png.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np

from recipes import data, explain, plot

SIDE, PATCH, WIDTH, BLOCKS = 32, 4, 64, 4  # pixels, pixels, channels, blocks
layers, ops = keras.layers, keras.ops


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="one epoch on a few digits")
    parser.add_argument("--out", type=Path, default=Path("runs/attention_maps"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'two minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    digits, labels = zip(*data.load("digits", validation=0)[0].as_numpy_iterator(), strict=True)
    count = 128 if arguments.quick else len(digits)
    images, masks = scatter(np.stack(digits)[:count], np.random.default_rng(0))
    labels = np.array(labels)[:count]
    model = vision_transformer()
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    held = count // 10
    model.fit(
        images[held:],
        labels[held:],
        batch_size=64,
        epochs=1 if arguments.quick else arguments.epochs,
        verbose=0,
    )
    print(
        f"accuracy {model.evaluate(images[:held], labels[:held], verbose=0)[1]:.1%} on digits it was not trained on\n"
    )

    shown, covered = images[:6], masks[:6]
    maps = {
        "attention rollout": explain.attention_rollout(model, shown),
        "attention relevance": explain.attention_relevance(model, shown),
        "Grad-CAM": explain.grad_cam(model, shown, layer=f"block{BLOCKS - 2}"),
    }
    print(f"The digit covers {covered.mean():.0%} of the canvas. The share of each map that lies on it:")
    for name, values in maps.items():
        print(f"{name:24} {(values * covered).sum() / max(values.sum(), 1e-9):.0%}")
    plot.attributions(shown, maps).savefig(arguments.out / "maps.png", dpi=110)
    print(f"Look at {arguments.out / 'maps.png'}: which method's map lies on the digit?")


def vision_transformer():
    """A pre-norm vision transformer of `BLOCKS` blocks over patches of `PATCH` pixels, with a class token."""
    x = image = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(WIDTH, PATCH, PATCH, name="patches")(layers.Rescaling(1 / 128, -1)(x))
    x = Tokens()(layers.Reshape((-1, WIDTH))(x))
    for number in range(BLOCKS):
        normed = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, WIDTH // 4)(normed, normed)])
        hidden = layers.Dense(2 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add(name=f"block{number}")([x, layers.Dense(WIDTH)(hidden)])
    return keras.Model(image, layers.Dense(10, activation="softmax")(layers.LayerNormalization()(x)[:, 0]))


class Tokens(keras.layers.Layer):
    """Put a class token before the patches and add learned position embeddings."""

    def build(self, input_shape):
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="random_normal")
        self.positions = self.add_weight(
            shape=(1, input_shape[1] + 1, input_shape[-1]), initializer="random_normal"
        )

    def call(self, patches):
        token = ops.broadcast_to(self.token, (ops.shape(patches)[0], 1, patches.shape[-1]))
        return ops.concatenate([token, patches], 1) + self.positions


def scatter(digits, random):
    """`(images, masks)`: each digit, twice as large, at a random place of a noisy canvas of `SIDE` pixels."""
    images = random.integers(0, 60, (len(digits), SIDE, SIDE, 1)).astype("float32")
    masks = np.zeros((len(digits), SIDE, SIDE), bool)
    for image, mask, digit in zip(images, masks, digits, strict=True):
        large = digit.repeat(2, 0).repeat(2, 1)
        top, left = random.integers(0, SIDE - 16, 2)
        place = (slice(top, top + 16), slice(left, left + 16))
        image[place] = np.maximum(image[place], large)
        mask[place] = large[..., 0] > 0
    return images, masks


if __name__ == "__main__":
    main()
