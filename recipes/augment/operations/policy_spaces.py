"""The operations and strengths from which the papers' policies choose, and a policy of several random steps."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from recipes.augment.engine.operation import Drawn, Fill, Frame
from recipes.augment.engine.programs import Program, Programmed, Space

_GEOMETRY = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_COLORS = ("Brightness", "Color", "Contrast", "Sharpness")
_CURVES = ("Posterize", "Solarize", "AutoContrast", "Equalize")
ALL = ("Identity", *_GEOMETRY, *_COLORS, *_CURVES)
WITHOUT_TEST_COLORS = (*_GEOMETRY, *_CURVES)


def space(
    names: Sequence[str],
    levels: int,
    *,
    shear: float,
    shift: tuple[float, float],
    degrees: float,
    factor: float,
    bits: tuple[int, int],
) -> Space:
    """Build a `Space` whose strengths increase evenly from zero to the given maximum.

    Args:
        names: Names of operations, from `KINDS`.
        levels: Number of strengths, >= 2.
        shear: Largest slope.
        shift: Largest shifts to the right and down, in pixels; each strength is rounded down to whole pixels.
        degrees: Largest angle in degrees.
        factor: Largest distance of a factor from 1.
        bits: Bits that the weakest and the strongest posterizing keep.
    """
    share = np.arange(levels) / (levels - 1)
    rows = {
        "ShearX": share * shear,
        "ShearY": share * shear,
        "TranslateX": np.floor(share * shift[0] + 1e-6),
        "TranslateY": np.floor(share * shift[1] + 1e-6),
        "Rotate": share * degrees,
        **dict.fromkeys(_COLORS, share * factor),
        "Posterize": np.clip(bits[0] - np.round(share * (bits[0] - bits[1])), 0, 8),
        "Solarize": 255 * (1 - share),
    }
    table = np.float32([rows.get(name, 0 * share) for name in names])
    signed = np.array([name in _GEOMETRY or name in _COLORS for name in names])
    return Space(tuple(names), table, signed)


def rand_augment_space(frame: Frame, names: Sequence[str] = ALL, levels: int = 31) -> Space:
    """The space of RandAugment, Cubuk et al. 2019, section 4, with 31 strengths.

    With ten strengths it is the space of AutoAugment (Cubuk et al. 2018, appendix A, table 6).
    """
    shift = (150 / 331 * frame.width, 150 / 331 * frame.height)
    return space(names, levels, shear=0.3, shift=shift, degrees=30, factor=0.9, bits=(8, 4))


def trivial_augment_space(frame: Frame, *, wide: bool) -> Space:
    """The spaces of TrivialAugment, Mueller and Hutter 2021, table 1.

    They are the wide space, or the space of RandAugment with shifts of up to 10 of 32 pixels.
    """
    if wide:
        return space(ALL, 31, shear=0.99, shift=(32, 32), degrees=135, factor=0.99, bits=(8, 2))
    shift = (10 / 32 * frame.width, 10 / 32 * frame.height)
    return space(ALL, 31, shear=0.3, shift=shift, degrees=30, factor=0.9, bits=(8, 4))


def aug_mix_space(frame: Frame, names: Sequence[str], severity: int) -> Space:
    """The space of AugMix, Hendrycks et al. 2019, section 3: the `severity` weakest of ten strengths.

    Posterizing keeps at most 4 bits.
    """
    found = space(
        names, 10, shear=0.3, shift=(frame.width / 3, frame.height / 3), degrees=30, factor=0.9, bits=(4, 0)
    )
    return Space(found.names, found.table[:, :severity], found.signed)


class RandomSteps(Programmed):
    """Several steps, each drawn from a space; `RandAugment` and `TrivialAugment` use it for `space="full"`.

    Args:
        owner: Name of the policy, for messages.
        count: Number of steps per image.
        level: Index of the strength; None draws one for each step.
        wide: Argument `wide` of `trivial_augment_space`; None takes `rand_augment_space`.
        fill: Color outside the image.
    """

    def __init__(self, owner: str, count: int, *, level: int | None, wide: bool | None, fill: Fill) -> None:
        self.owner, self.count, self.level, self.wide, self.fill = owner, count, level, wide, fill

    @property
    def name(self) -> str:
        return self.owner

    @property
    def draws(self) -> tuple[str, ...]:
        return tuple(f"{name} {step}" for step in range(self.count) for name in ("choice", "sign", "level"))

    def used(self) -> Sequence[str]:
        return ALL

    def program(self, drawn: Drawn, frame: Frame) -> Program:
        found = (
            rand_augment_space(frame) if self.wide is None else trivial_augment_space(frame, wide=self.wide)
        )
        return random_program(found, drawn, self.count, self.level)

    def __repr__(self) -> str:
        return f"RandomSteps({self.owner!r}, {self.count}, level={self.level}, wide={self.wide}, fill={self.fill!r})"


def random_program(found: Space, drawn: Drawn, count: int, level: int | None) -> Program:
    """Draw `count` steps, each with its own kind and sign and, if `level` is None, its own strength."""
    steps = []
    for step in range(count):
        choice = whole_number(drawn[f"choice {step}"], len(found.names))
        strength = (
            whole_number(drawn[f"level {step}"], found.table.shape[1])
            if level is None
            else tf.fill(tf.shape(choice), level)
        )
        steps.append(found.step(choice, strength, drawn[f"sign {step}"] < 0.5))
    kinds, strengths = zip(*steps, strict=True)
    return Program(tf.stack(kinds, 1), tf.stack(strengths, 1))


def whole_number(uniform: tf.Tensor, count: int) -> tf.Tensor:
    """Map a draw in [0, 1) to a whole number from 0 to `count - 1`, int32."""
    return tf.minimum(tf.cast(uniform * count, tf.int32), count - 1)
