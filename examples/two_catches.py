"""Two mistakes that a good accuracy or a loss alone does not show: one found by the doctor, one by an attribution map.

    python examples/two_catches.py            # half a minute on two cores

1. A network is trained at a learning rate that was copied from elsewhere. `TrainingDoctor` says in words what its loss
   curve means; the picture is runs/two_catches/finding.png.
2. A network distinguishes gray crops of two photos without an error, but every crop of one class has a time stamp. On
   a crop of the other class with a time stamp, the network is confident and wrong. Grad-CAM shows that it relied on the
   time stamp; the picture is runs/two_catches/time_stamp.png. `recipes check` finds such a mark before training.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import skimage.data

from recipes import callbacks, explain, models, plot

SIDE = 64
NAMES = ("cat", "coffee")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer crops and epochs")
    parser.add_argument("--out", type=Path, default=Path("runs/two_catches"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'half a minute'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    count, epochs = (60, 2) if arguments.quick else (300, 6)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)

    x, y = crops(rng, count)
    finding(x, y, epochs, arguments.out)
    time_stamp(x, y, epochs, rng, arguments.out)
    print(
        f"\nLook at {arguments.out}: finding.png has the doctor's finding, time_stamp.png the evidence for the answers."
    )


def crops(rng, count):
    """`count` gray crops of each photo, uint8, mirrored, lighter or darker at random, and their class numbers."""
    photos = (skimage.data.chelsea(), skimage.data.coffee())
    x, y = np.zeros((2 * count, SIDE, SIDE, 3), "uint8"), np.arange(2 * count) % 2
    for place, label in enumerate(y):
        photo = photos[label][::2, ::2]
        top, left = (rng.integers(0, size - SIDE + 1) for size in photo.shape[:2])
        crop = photo[top : top + SIDE, left : left + SIDE][:, :: rng.choice([-1, 1])].mean(-1, keepdims=True)
        x[place] = np.clip(128 + rng.uniform(0.4, 1) * (crop - crop.mean()), 0, 255)
    return x, y


def network():
    return models.plain_cnn((SIDE, SIDE, 3), 2, filters=(8, 16, 32), convs=1)


def finding(x, y, epochs, out):
    """A learning rate that is far too high, and what the doctor says about it."""
    model = network()
    model.compile(keras.optimizers.SGD(30.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    doctor = callbacks.TrainingDoctor(train=(x, y), verbose=0)
    history = model.fit(x, y, epochs=epochs, validation_split=0.2, verbose=0, callbacks=[doctor])
    for found in doctor.findings[:1]:
        print(found)
    plot.curves(history, log_loss=True, findings=doctor.findings).savefig(out / "finding.png", dpi=70)


def stamped(images):
    """The images with a bright time stamp in their lower right corner."""
    images = images.copy()
    for place in range(4):
        left = SIDE - 26 + 6 * place
        images[:, SIDE - 10 : SIDE - 3, left : left + 4] = (255, 150, 30)
    return images


def time_stamp(x, y, epochs, rng, out):
    """A network that learned the stamp, and the map that shows it."""
    model = network()
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    stamp_on_coffee = np.where((y == 1)[:, None, None, None], stamped(x), x)
    model.fit(stamp_on_coffee, y, epochs=epochs, verbose=0)
    fresh, labels = crops(rng, 20)
    as_trained = np.where((labels == 1)[:, None, None, None], stamped(fresh), fresh)
    right = model.predict(as_trained, verbose=0).argmax(-1) == labels
    cats = stamped(fresh[labels == 0])
    answers = model.predict(cats, verbose=0)
    fooled = answers[:, 1] > 0.5
    print(f"new photos, with time stamps as in training: {right.mean():.0%} classified correctly")
    print(f"cats with a time stamp: {fooled.mean():.0%} classified as coffee")
    chosen = np.argsort(-answers[:, 1])[:3]
    plain = fresh[labels == 0][chosen]
    shown = np.concatenate([plain, cats[chosen]])
    sure = model.predict(shown, verbose=0)
    titles = [f"{NAMES[row.argmax()]}, {row.max():.0%}" for row in sure]
    maps = [None] * len(plain) + list(explain.grad_cam(model, cats[chosen]))
    title = "The same cats, below with a time stamp and the evidence for the answer"
    figure = plot.grid(shown, maps=maps, titles=titles, columns=3, title=title, size=1.9)
    figure.savefig(out / "time_stamp.png", dpi=70)


if __name__ == "__main__":
    main()
