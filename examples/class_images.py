"""What twelve classes look like to a network: images made from gray noise by raising the score of a class.

    python examples/class_images.py                       # 12 classes, three minutes on two cores
    python examples/class_images.py goldfish tiger        # parts of ImageNet's class names
    python examples/class_images.py daisy --several 4     # four different images of one class

The network is EfficientNet-Lite0 with its ImageNet weights (extra `pretrained`). Prints the probability that the
network gives each image for its class, and writes all images to runs/class_images/classes.jpg.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import numpy as np

from recipes import explain, models, plot

CLASSES = (
    *("goldfish", "flamingo", "zebra", "volcano", "lemon", "parachute"),
    *("Arabian camel", "tiger", "pizza", "bookcase", "beacon", "spider web"),
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "classes", nargs="*", default=CLASSES, help="class names of ImageNet or parts of them"
    )
    parser.add_argument(
        "--several", type=int, default=1, help="images of each class, which are made different"
    )
    parser.add_argument("--steps", type=int, default=512, help="steps of ascent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two classes, two steps")
    parser.add_argument("--out", type=Path, default=Path("runs/class_images"))
    arguments = parser.parse_args()
    print(f"This takes {'some 15 seconds' if arguments.quick else 'three minutes'} on two cores.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        arguments.classes, arguments.steps = arguments.classes[:2], 2

    model, names = models.efficientnet_lite0(), models.imagenet_class_names()
    numbers = [number for text in arguments.classes for number in [find(text, names)] * arguments.several]
    at_once = max(4, arguments.several)  # more take more memory
    made = np.concatenate(
        [
            explain.class_image(
                model,
                numbers[start : start + at_once],
                steps=arguments.steps,
                seed=arguments.seed,
                diversity=10.0 if arguments.several > 1 else 0.0,
            )
            for start in range(0, len(numbers), at_once)
        ]
    )
    probabilities = model.predict(made, verbose=0)
    titles = [names[number].split(",")[0] for number in numbers]
    for title, number, row in zip(titles, numbers, probabilities, strict=True):
        print(f"{title:24} {row[number]:6.1%}")
    plot.grid(made, titles=titles, columns=min(4, len(made)), size=2.2).savefig(
        arguments.out / "classes.jpg", dpi=110
    )
    print(f"Look at {arguments.out / 'classes.jpg'}: which features of each class does the network rely on?")


def find(text, names):
    """The class whose name is or has `text` in it."""
    found = [number for number, name in enumerate(names) if text.lower() in name.lower()]
    if not found:
        raise SystemExit(
            f"Expected a part of an ImageNet class name. Received {text!r}. Try 'daisy' or 'tiger'."
        )
    exact = [number for number in found if names[number].lower().split(",")[0] == text.lower()]
    return (exact or found)[0]


if __name__ == "__main__":
    main()
