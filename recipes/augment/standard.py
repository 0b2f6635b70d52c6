"""A pipeline of standard augmentations, chosen by the kind of images and a strength."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from recipes.augment.operations.color_jitter import ColorJitter
from recipes.augment.operations.cutmix import CutMix
from recipes.augment.operations.cutout import Cutout
from recipes.augment.operations.flip import Flip
from recipes.augment.operations.mixup import MixUp
from recipes.augment.operations.one_of import OneOf
from recipes.augment.operations.pad_crop import PadCrop
from recipes.augment.operations.rotate import Rotate
from recipes.augment.operations.shear import Shear
from recipes.augment.operations.translate import Translate
from recipes.augment.operations.trivial_augment import TrivialAugment
from recipes.augment.operations.zoom import Zoom
from recipes.augment.pipeline import Pipeline
from recipes.common.validation import are_whole, as_row, is_one_of

if TYPE_CHECKING:
    from recipes.common.types import ValueRange

_KINDS = ("photos", "symbols")
_STRENGTHS = ("light", "medium", "strong")


def standard(
    shape: Sequence[int],
    *,
    kind: Literal["photos", "symbols"] = "photos",
    strength: Literal["light", "medium", "strong"] = "light",
    value_range: "ValueRange" = (0, 255),
    classes: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Pipeline:
    """Build a pipeline of standard augmentations for images of one shape.

    No operation in it normalizes; the images are returned as float32 in the same value range.

    For photos:
        light: `Flip`, and `PadCrop` by 1/8 of the side with mirrored borders.
        medium: as light, with `ColorJitter` 0.2, and `Cutout` of 1/4 of the side on half of the images.
        strong: as medium, with `TrivialAugment(wide=False)` on half of the images, and `MixUp(0.2)` or `CutMix(1)` on
            half of them.

    For symbols (digits, letters, signs), without mirroring and color:
        light: `Rotate` by 8 degrees, `Zoom` by 1.08, `Translate` by 1/14 of the side; borders repeat the nearest pixel.
        medium: as light, with 12 degrees and 1.12, `Shear` by 0.15, and `Cutout` of 1/4 of the side on half of the
            images.
        strong: as medium, with `MixUp(0.2)` on half of the images.

    Source of the shifts and flips: He et al. 2015, section 4.2, https://arxiv.org/abs/1512.03385. Source of the
    rotations and zooms: Simard et al. 2003, section 2, with smaller ranges.

    `recipes.train` has the same default. The figures below are changes of the error in percentage points against no
    augmentation (`benchmarks/policies.py`, tables in docs/benchmarks.md; 2000 images, equal CPU time, five seeds). On
    MNIST's digits light gave -0.7 +- 0.3 and medium -0.9 +- 0.3. On Fashion-MNIST, after 18 epochs, both are worse than
    none: light +2.0 +- 0.2, medium +2.7 +- 0.3; after 55 epochs light is not (-0.1 +- 0.2), and medium hardly is (+0.6
    +- 0.3). In earlier studies neither differed from none on CIFAR-10 and on digits of 8 pixels. No table is clearly in
    favor of more than "light", so that is the default. TrivialAugment and AutoAugment brought no gain in such short
    runs.

    Args:
        shape: `(height, width, channels)` of one image.
        kind: "photos" or "symbols". Images that get another meaning when they are mirrored or rotated are symbols.
        strength: "light", "medium" or "strong". "strong" mixes labels and returns them as soft labels `(batch,
            classes)`. Give `classes` when the labels are integers, and train with a categorical loss.
        value_range: `(low, high)` of the pixels.
        classes: Number of classes, >= 1, or None.
        seed: Integer >= 0 that fixes all draws.
        options: Further arguments of `Pipeline`.

    Returns:
        A `Pipeline`; its `repr` shows what was chosen, `.operations` is the list.

    Raises:
        ValueError: when `kind` or `strength` is unknown, or when `shape` is not `(height, width, channels)`.
    """
    for name, value, known in (("kind", kind, _KINDS), ("strength", strength, _STRENGTHS)):
        if not is_one_of(value, known):
            raise ValueError(
                f"augment.standard expects {name} to be one of {', '.join(map(repr, known))}. Received {value!r}. "
                f"Write {name}={known[0]!r}."
            )
    sides = as_row(shape) or ()
    if len(sides) != 3 or not are_whole(sides):
        raise ValueError(
            f"augment.standard expects the shape (height, width, channels) of one image. Received {shape}. "
            "For a batch write standard(images.shape[1:]); gray images have 1 channel."
        )
    side, channels = min(sides[:2]), sides[2]
    build = _photos if kind == "photos" else _symbols
    operations = build(side, channels, _STRENGTHS.index(strength))
    return Pipeline(operations, value_range=value_range, classes=classes, seed=seed, **options)


def _photos(side, channels, level):
    operations = [Flip(), PadCrop(max(1, side // 8), fill="reflect")] if side > 1 else [Flip()]
    if level >= 2:
        operations.append(TrivialAugment(wide=False, color=channels == 3, fill="reflect", probability=0.5))
    if level >= 1:
        operations.append(ColorJitter(0.2, 0.2, 0.2 if channels == 3 else 0))
        operations += _holes(side)
    if level >= 2:
        operations.append(OneOf([MixUp(0.2), CutMix(1.0)], probability=0.5))
    return operations


def _symbols(side, channels, level):
    shift = round(side / 14) / side
    degrees, zoom = (8, 0.08) if level == 0 else (12, 0.12)
    # Borders repeat the nearest pixel, which is background, whether black or white.
    operations = [Rotate(degrees, fill="edge"), Zoom(zoom, fill="edge"), Translate(shift, shift, fill="edge")]
    if level >= 1:
        operations += [Shear(0.15, fill="edge"), *_holes(side)]
    if level >= 2:
        operations.append(MixUp(0.2, probability=0.5))
    return operations


def _holes(side):
    """`Cutout` of a quarter of the side on half of the images, where the images have at least 4 pixels."""
    return [Cutout(side // 4, probability=0.5)] if side >= 4 else []
