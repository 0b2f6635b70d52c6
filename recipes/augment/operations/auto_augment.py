"""AutoAugment: policies that were found by search on three data sets."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.programs import Program, Programmed
from recipes.augment.operations.policy_spaces import rand_augment_space, whole_number
from recipes.common.validation import is_one_of


@operation
class AutoAugment(Programmed):
    """Apply one of 25 pairs of operations that were found by search; each of the two acts with its own probability.

    Source: Cubuk et al. 2018, "AutoAugment", https://arxiv.org/abs/1805.09501, tables 7 (CIFAR-10), 8 (SVHN) and 9
    (ImageNet), strengths of table 6 in ten levels. The two run in the paper's order, one after the other, on whole
    levels from 0 to 255. Unlike in the paper's code, moved pixels are read bilinearly.

    Args:
        policy: "imagenet", "cifar10" or "svhn": the data set on which the policy was found.
        fill: Color outside the image: "black", "mean", "edge", "reflect", a number, or one number per channel.
        probability: Chance that an image is augmented.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    _: dataclasses.KW_ONLY
    fill: Fill = "black"
    probability: float = 1.0

    draws = ("pair", "chance 0", "chance 1", "sign 0", "sign 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_one_of(self.policy, tuple(POLICIES)):
            raise ValueError(
                f"augment.AutoAugment expects policy to be one of {', '.join(map(repr, POLICIES))}. Received "
                f"{self.policy!r}. Write AutoAugment('cifar10')."
            )

    def used(self) -> Sequence[str]:
        return [step[0] for pair in read_policy(POLICIES[self.policy]) for step in pair]

    def program(self, drawn: Drawn, frame: Frame) -> Program:
        pairs = read_policy(POLICIES[self.policy])
        names = tuple(dict.fromkeys(self.used()))
        found = rand_augment_space(frame, names, 10)
        pair = whole_number(drawn["pair"], len(pairs))
        steps = []
        for place in range(2):
            column = [one[place] for one in pairs]
            choice = tf.gather(np.int32([names.index(name) for name, _, _ in column]), pair)
            level = tf.gather(np.int32([level for _, _, level in column]), pair)
            kind, strength = found.step(choice, level, drawn[f"sign {place}"] < 0.5)
            acts = drawn[f"chance {place}"] < tf.gather(np.float32([chance for _, chance, _ in column]), pair)
            steps.append((tf.where(acts, kind, 0), strength))
        return Program(tf.stack([kind for kind, _ in steps], 1), tf.stack([one for _, one in steps], 1))


def read_policy(text: str) -> list[list[tuple[str, float, int]]]:
    """Read pairs of `(name, chance, level)` from text; operations without a strength get level 0."""
    pairs = []
    for line in text.strip().splitlines():
        words = line.split()
        steps = zip(words[::3], words[1::3], words[2::3], strict=True)
        pairs.append(
            [(name, float(chance), 0 if level == "-" else int(level)) for name, chance, level in steps]
        )
    return pairs


#: Name, chance and level of the first and of the second operation of each pair.
POLICIES = {
    "imagenet": """
        Posterize 0.4 8 Rotate 0.6 9
        Solarize 0.6 5 AutoContrast 0.6 -
        Equalize 0.8 - Equalize 0.6 -
        Posterize 0.6 7 Posterize 0.6 6
        Equalize 0.4 - Solarize 0.2 4
        Equalize 0.4 - Rotate 0.8 8
        Solarize 0.6 3 Equalize 0.6 -
        Posterize 0.8 5 Equalize 1.0 -
        Rotate 0.2 3 Solarize 0.6 8
        Equalize 0.6 - Posterize 0.4 6
        Rotate 0.8 8 Color 0.4 0
        Rotate 0.4 9 Equalize 0.6 -
        Equalize 0.0 - Equalize 0.8 -
        Invert 0.6 - Equalize 1.0 -
        Color 0.6 4 Contrast 1.0 8
        Rotate 0.8 8 Color 1.0 2
        Color 0.8 8 Solarize 0.8 7
        Sharpness 0.4 7 Invert 0.6 -
        ShearX 0.6 5 Equalize 1.0 -
        Color 0.4 0 Equalize 0.6 -
        Equalize 0.4 - Solarize 0.2 4
        Solarize 0.6 5 AutoContrast 0.6 -
        Invert 0.6 - Equalize 1.0 -
        Color 0.6 4 Contrast 1.0 8
        Equalize 0.8 - Equalize 0.6 -
    """,
    "cifar10": """
        Invert 0.1 - Contrast 0.2 6
        Rotate 0.7 2 TranslateX 0.3 9
        Sharpness 0.8 1 Sharpness 0.9 3
        ShearY 0.5 8 TranslateY 0.7 9
        AutoContrast 0.5 - Equalize 0.9 -
        ShearY 0.2 7 Posterize 0.3 7
        Color 0.4 3 Brightness 0.6 7
        Sharpness 0.3 9 Brightness 0.7 9
        Equalize 0.6 - Equalize 0.5 -
        Contrast 0.6 7 Sharpness 0.6 5
        Color 0.7 7 TranslateX 0.5 8
        Equalize 0.3 - AutoContrast 0.4 -
        TranslateY 0.4 3 Sharpness 0.2 6
        Brightness 0.9 6 Color 0.2 8
        Solarize 0.5 2 Invert 0.0 -
        Equalize 0.2 - AutoContrast 0.6 -
        Equalize 0.2 - Equalize 0.6 -
        Color 0.9 9 Equalize 0.6 -
        AutoContrast 0.8 - Solarize 0.2 8
        Brightness 0.1 3 Color 0.7 0
        Solarize 0.4 5 AutoContrast 0.9 -
        TranslateY 0.9 9 TranslateY 0.7 9
        AutoContrast 0.9 - Solarize 0.8 3
        Equalize 0.8 - Invert 0.1 -
        TranslateY 0.7 9 AutoContrast 0.9 -
    """,
    "svhn": """
        ShearX 0.9 4 Invert 0.2 -
        ShearY 0.9 8 Invert 0.7 -
        Equalize 0.6 - Solarize 0.6 6
        Invert 0.9 - Equalize 0.6 -
        Equalize 0.6 - Rotate 0.9 3
        ShearX 0.9 4 AutoContrast 0.8 -
        ShearY 0.9 8 Invert 0.4 -
        ShearY 0.9 5 Solarize 0.2 6
        Invert 0.9 - AutoContrast 0.8 -
        Equalize 0.6 - Rotate 0.9 3
        ShearX 0.9 4 Solarize 0.3 3
        ShearY 0.8 8 Invert 0.7 -
        Equalize 0.9 - TranslateY 0.6 6
        Invert 0.9 - Equalize 0.6 -
        Contrast 0.3 3 Rotate 0.8 4
        Invert 0.8 - TranslateY 0.0 2
        ShearY 0.7 6 Solarize 0.4 8
        Invert 0.6 - Rotate 0.8 4
        ShearY 0.3 7 TranslateX 0.9 3
        ShearX 0.1 6 Invert 0.6 -
        Solarize 0.7 2 TranslateY 0.6 7
        ShearY 0.8 4 Invert 0.8 -
        ShearX 0.7 9 TranslateY 0.8 3
        ShearY 0.8 5 AutoContrast 0.7 -
        ShearX 0.7 2 Invert 0.1 -
    """,
}
