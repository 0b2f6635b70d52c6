"""AugMix: a blend of several chains of operations, and several views of each image for its loss."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from recipes.augment.engine.geometry import Geometric
from recipes.augment.engine.operation import Drawn, Fill, Frame, operation
from recipes.augment.engine.programs import (
    Program,
    Programmed,
    from_levels,
    prepared,
    run_steps,
    step_runner,
    to_levels,
)
from recipes.augment.engine.warp import Warp
from recipes.augment.operations.policy_spaces import (
    ALL,
    WITHOUT_TEST_COLORS,
    aug_mix_space,
    random_program,
    whole_number,
)
from recipes.common.validation import is_whole

_DEPTH = 3


@operation
class AugMix(Programmed):
    """Blend each image with a mixture of chains of random operations; with `views`, make several blends of each image.

    Source: Hendrycks et al. 2019, "AugMix", algorithm 1, https://arxiv.org/abs/1912.02781: three chains of one to three
    operations, their shares from Dirichlet(1, ..., 1), the share of the image from Beta(1, 1). The strengths are those
    of torchvision: levels 0 to `severity` - 1 of ten. Inside a chain pixels are whole levels; after the blend they are
    floats.

    With `views=3` a batch becomes three times as long. Each image comes as the operations before `AugMix` return it,
    followed by two blends of it; these earlier operations have the same draws for all three. Labels are repeated. The
    weights (1, 0, 0) of each group tell `augment.JensenShannonLoss` which examples are views of one image. Validation
    data need no change:

        pipeline = augment.Pipeline([augment.Flip(), augment.PadCrop(4), augment.AugMix(views=3)])
        model.compile("sgd", augment.JensenShannonLoss())
        model.fit(train.batch(64).apply(pipeline), validation_data=validation.batch(64))

    Plain metrics count every view, `weighted_metrics` only the images.

    Args:
        severity: Strength of the operations, a whole number from 1 to 10. Paper: 3.
        width: Number of chains, 1 to 20. Paper: 3.
        views: 1 blends every image; 2 to 20 return each image and views - 1 blends of it. Paper: 3.
        all_operations: Whether to use brightness, color, contrast and sharpness too. The paper leaves them out because
            the corruptions of its robustness test contain them.
        fill: Color outside the image: "black", "mean", "edge", "reflect", a number, or one number per channel.
        probability: Chance that an image is blended.

    Raises:
        ValueError: when an argument is outside its range; in a pipeline also when the images do not suit the operation.
    """

    severity: int = 3
    width: int = 3
    _: dataclasses.KW_ONLY
    views: int = 1
    all_operations: bool = False
    fill: Fill = "black"
    probability: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {"severity": 10, "width": 20, "views": 20}
        for name, most in limits.items():
            value = getattr(self, name)
            if not is_whole(value) or not 1 <= value <= most:
                raise ValueError(
                    f"augment.AugMix expects {name} to be a whole number in 1 to {most}. Received {value!r}. "
                    "The paper uses AugMix(3, 3, views=3)."
                )

    @property
    def draws(self) -> tuple[str, ...]:
        steps = range(self.width * _DEPTH)
        return (
            "image",
            *(f"{name} {chain}" for chain in range(self.width) for name in ("share", "depth")),
            *(f"{name} {step}" for step in steps for name in ("choice", "sign", "level")),
        )

    def used(self) -> Sequence[str]:
        return ALL[1:] if self.all_operations else WITHOUT_TEST_COLORS

    def program(self, drawn: Drawn, frame: Frame) -> Program:
        found = aug_mix_space(frame, self.used(), self.severity)
        return random_program(found, drawn, self.width * _DEPTH, None)

    def moved_by(self) -> Geometric:
        return _Blended()

    def _apply(self, images, drawn, active, frame):
        shares = -tf.math.log(1 - tf.stack([drawn[f"share {chain}"] for chain in range(self.width)], 1))
        keep = drawn["image"][:, None]
        shares = shares / tf.reduce_sum(shares, 1, keepdims=True) * (1 - keep)
        depths = tf.stack(
            [1 + whole_number(drawn[f"depth {chain}"], _DEPTH) for chain in range(self.width)], 1
        )
        run = step_runner(self.used(), self.fill, frame)
        levels = to_levels(images, frame)

        def one(given):
            image, kinds, strengths, warps, shares, depths, keep = given

            def chain(number, total):
                first = number * _DEPTH
                end = first + depths[number]
                return number + 1, total + shares[number] * tf.cast(
                    run_steps(run, image, kinds, strengths, warps, first, end), tf.float32
                )

            start = [tf.constant(0), keep * tf.cast(image, tf.float32)]
            return tf.while_loop(lambda number, _: number < self.width, chain, start)[1]

        program = prepared(self.program(drawn, frame), active, frame)
        given = (levels, *program, shares, depths, keep[:, 0])
        blended = tf.reshape(tf.map_fn(one, given, fn_output_signature=tf.float32), tf.shape(images))
        blended = from_levels(blended, frame)
        if active is None:
            return blended
        return tf.where(active[:, None, None, None], blended, tf.cast(images, tf.float32))


class _Blended(Geometric):
    """Stands for the geometry of several chains, each of which moves the pixels differently; it cannot be followed."""

    turns = True
    fill = "black"

    def __init__(self) -> None:
        pass

    def warp(self, drawn: Drawn, frame: Frame) -> Warp:
        raise ValueError(
            "augment.AugMix expects images and labels only, because it blends copies that were moved in several ways. "
            "Received annotations that move with the pixels. Write RandAugment(space='full') for masks, boxes and "
            "keypoints."
        )
