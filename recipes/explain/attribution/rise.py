"""RISE: random masks, averaged with the score of the masked image as weight."""

from collections.abc import Sequence

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Inputs
from recipes.common.validation import check_seed, is_number, is_whole
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled, masked
from recipes.explain.attribution.resize_map import resize as resized
from recipes.explain.engine import tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import AttributionOptions, Baseline, Target, shares


@shares(AttributionOptions, score="probability")
def rise(
    model: keras.Model,
    images: Inputs,
    target: Target = None,
    *,
    masks: int = 4000,
    cells: int | tuple[int, ...] = 7,
    keep: float = 0.5,
    baseline: Baseline = 0.0,
    seed: int | None = 0,
    **options: Unpack[AttributionOptions],
) -> FloatArray:
    """Mean score of the masked image over the masks that show a pixel.

    A mask is a coarse random grid of zeros and ones, enlarged linearly to more than the image and cropped at a random
    position. Source: Petsiuk et al. 2018, "RISE", equation 6 and section 3.2, https://arxiv.org/abs/1806.07421
    (4000 masks for VGG16, 8000 for ResNet50; 7 x 7 cells; probabilities).

    Args:
        model, images, target: As in every method; see `recipes.explain`.
        masks: Number of masks, >= 1, the same for every image. The noise falls with the square root of this number.
        cells: Number of cells of the grid along each spatial axis, or one number per axis.
        keep: Probability that a cell shows the image, in (0, 1).
        baseline: The content of hidden pixels: a number (0, black, as in the paper), `"mean"`, `"blur"`, or an
            array.
        seed: Integer that fixes the masks.
        options: The options of `AttributionOptions`. The score is `"probability"` (the paper's) or `"logits"`.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image. The same
        seed gives the same maps.

    Warns:
        UserWarning: when the score of an image is the same for every mask, as for a saturated softmax. The map then
            contains no information.

    Raises:
        ValueError: when `masks`, `cells` or `keep` is outside its range, or an argument does not fit the model.
    """
    seed = 0 if seed is None else seed
    check_seed("rise", seed)
    at_least_one("rise", "masks", masks)
    if not is_number(keep) or not 0 < keep < 1:
        raise UsageError(f"rise expects keep in (0, 1). Received keep={keep}. The paper uses 0.5.")
    task = Task("rise", model, images, target, **options)
    draw = Masks(task.spatial, _grid(cells, task.spatial), keep, seed)
    flat = []

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        nothing = filled("rise", "baseline", baseline, clean, task, group)

        def change(batch, sample, rows):
            mask = task.over_channels(draw(sample)[None])
            masked(clean[rows], nothing[rows], mask, out=batch)

        total = np.zeros((len(clean), *task.spatial), "float32")
        lowest, highest = np.full(len(clean), np.inf), np.full(len(clean), -np.inf)
        for rows, scores, sample in task.sampled_scores(group, masks, change):
            total[rows] += scores.reshape(-1, *[1] * len(task.spatial)) * draw(sample)
            lowest[rows] = np.minimum(lowest[rows], scores)
            highest[rows] = np.maximum(highest[rows], scores)
        flat.extend((lowest == highest).tolist())
        return importance(total, masks, keep)

    maps = task.each_group(explain, masks + 1)
    if masks > 1:
        _say_where_flat(model, flat)
    return task.finish(maps)


def _say_where_flat(model, flat):
    """Warn about images whose score is the same for every mask."""
    if any(flat):
        tracing.warn_once(
            model,
            "rise",
            f"rise found the same score behind every mask in {sum(flat)} of {len(flat)} images, the first at index "
            f"{flat.index(True)}: its map shows the masks, not the model. A softmax that saturates at 0 or 1 does "
            "that; pass score='logits'.",
        )


def importance(total: FloatArray, masks: int, keep: float) -> FloatArray:
    """Equation 6: the sum of score times mask over all masks, divided by the number of masks and by E[M] = `keep`."""
    return total / (masks * keep)


def enlarged(grids: FloatArray, shape: Sequence[int], corners: np.ndarray) -> FloatArray:
    """Section 3.2: grids enlarged by whole cells, then cropped to the image at a corner inside the first cell.

    Args:
        grids: `(n, *cells)` of zeros and ones, with one cell more along each axis than the image has.
        shape: The image's spatial shape.
        corners: int `(n, axes)`: the corner at which each mask is cropped, from 0 to below the length of a cell.

    Returns:
        float32 `(n, *shape)`, in 0..1.
    """
    lengths = [-(-size // (cells - 1)) for size, cells in zip(shape, grids.shape[1:], strict=True)]
    fine = resized(grids, [cells * length for cells, length in zip(grids.shape[1:], lengths, strict=True)])
    cut = np.empty((len(grids), *shape), "float32")
    for mask, wide, corner in zip(cut, fine, corners, strict=True):
        mask[...] = wide[tuple(slice(c, c + size) for c, size in zip(corner, shape, strict=True))]
    return cut


class Masks:
    """Masks by number, drawn in blocks; a number gives the same mask in any order and any chunk."""

    block = 64

    def __init__(self, spatial: tuple[int, ...], grid: tuple[int, ...], keep: float, seed: int) -> None:
        self.spatial, self.grid, self.keep, self.seed, self.drawn = spatial, grid, keep, seed, {}

    def __call__(self, number: int) -> FloatArray:
        block = number // self.block
        if block not in self.drawn:
            # Two blocks are kept: a chunk may begin in one and end in the next.
            self.drawn = {key: value for key, value in self.drawn.items() if key == block - 1}
            self.drawn[block] = self._draw(np.random.default_rng([self.seed, block]))
        return self.drawn[block][number % self.block]

    def _draw(self, generator):
        shown = generator.random((self.block, *[cells + 1 for cells in self.grid])) < self.keep
        cell = [-(-size // cells) for size, cells in zip(self.spatial, self.grid, strict=True)]
        corners = generator.integers(0, cell, (self.block, len(cell)))
        return enlarged(shown.astype("float32"), self.spatial, corners)


def _grid(cells, spatial):
    grid = tuple(cells) if isinstance(cells, (tuple, list)) else (cells,) * len(spatial)
    if len(grid) != len(spatial) or not all(
        is_whole(c) and 1 <= c <= size for c, size in zip(grid, spatial, strict=True)
    ):
        raise UsageError(
            f"rise expects cells between 1 and the image size on every axis. Received cells={cells} for "
            f"images of {spatial}. The paper uses 7."
        )
    return grid
