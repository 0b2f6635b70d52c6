"""RISE: random masks, averaged with the score the image keeps behind each."""

import numpy as np

from recipes.common.validation import check_seed, is_number, is_whole
from recipes.explain.attribution.attribution_task import Task, at_least_one
from recipes.explain.attribution.baselines import filled
from recipes.explain.attribution.resize_map import resize as resized
from recipes.explain.engine.errors import UsageError


def rise(
    model,
    images,
    target=None,
    *,
    masks=4000,
    cells=7,
    keep=0.5,
    baseline=0.0,
    score="probability",
    batch_size=64,
    wrt=None,
    compile="auto",
    seed=0,
    verbose="auto",
):
    """Mean score of the masked image over the masks that show a pixel.

    A mask is a coarse random grid of zeros and ones, enlarged linearly past the image and cut out at a random
        place. Source: Petsiuk et al. 2018, "RISE", equation 6 and section 3.2,
        https://arxiv.org/abs/1806.07421 (4000 masks for VGG16, 8000 for ResNet50; 7 x 7 cells;
        probabilities).

    Args:
        model, images, target, batch_size, wrt, compile, seed, verbose: As in every method, see
            `recipes.explain`.
        masks: Number of masks, >= 1; every image sees the same ones. Noise falls with its square root.
        cells: Cells of the grid along each spatial axis, or one number per axis.
        keep: Probability that a cell shows the image, in (0, 1).
        baseline: What a mask hides it with: a number (0, black, as in the paper), `"mean"`, `"blur"`, or an
            array.
        score: `"probability"` (the paper's) or `"logits"`.

    Returns:
        float32 `(n, height, width)`, in units of the score; `(height, width)` for a single image. The same
        seed gives the same maps.
    """
    check_seed("rise", 0 if seed is None else seed)
    at_least_one("rise", "masks", masks)
    if not is_number(keep) or not 0 < keep < 1:
        raise UsageError(f"rise expects keep in (0, 1). Received keep={keep}. The paper uses 0.5.")
    task = Task(
        "rise",
        model,
        images,
        target,
        score=score,
        batch_size=batch_size,
        wrt=wrt,
        compile=compile,
        verbose=verbose,
    )
    grid = tuple(cells) if isinstance(cells, (tuple, list)) else (cells,) * len(task.spatial)
    if len(grid) != len(task.spatial) or not all(
        is_whole(c) and 1 <= c <= size for c, size in zip(grid, task.spatial, strict=True)
    ):
        raise UsageError(
            f"rise expects cells between 1 and the image size on every axis. Received cells={cells} for "
            "images of "
            f"{task.spatial}. The paper uses 7."
        )
    draw = Masks(task.spatial, grid, keep, 0 if seed is None else seed)

    def explain(group):
        clean = task.inputs.images[group].astype("float32")
        nothing = filled("rise", "baseline", baseline, clean, task, group)

        def change(batch, sample, rows):
            np.subtract(clean[rows], nothing[rows], out=batch)
            batch *= np.expand_dims(draw(sample)[None], task.channel_axis)
            batch += nothing[rows]

        total = np.zeros((len(clean), *task.spatial), "float32")
        for rows, scores, sample in task.sampled_scores(group, masks, change):
            total[rows] += scores.reshape(-1, *[1] * len(task.spatial)) * draw(sample)
        return total / (masks * keep)

    return task.finish(task.each_group(explain, masks + 1))


class Masks:
    """Masks by number, drawn in blocks: the same in any order and any chunk."""

    block = 64

    def __init__(self, spatial, grid, keep, seed):
        self.spatial, self.grid, self.keep, self.seed, self.drawn = spatial, grid, keep, seed, {}

    def __call__(self, number):
        block = number // self.block
        if block not in self.drawn:
            # Two blocks are kept: a chunk may begin in one and end in the next.
            self.drawn = {key: value for key, value in self.drawn.items() if key == block - 1}
            self.drawn[block] = self._draw(np.random.default_rng([self.seed, block]))
        return self.drawn[block][number % self.block]

    def _draw(self, generator):
        cell = [-(-size // cells) for size, cells in zip(self.spatial, self.grid, strict=True)]
        coarse = (generator.random((self.block, *[cells + 1 for cells in self.grid])) < self.keep).astype(
            "float32"
        )
        fine = resized(coarse, [(cells + 1) * length for cells, length in zip(self.grid, cell, strict=True)])
        masks = np.empty((self.block, *self.spatial), "float32")
        corners = generator.integers(0, cell, (self.block, len(cell)))
        for mask, wide, corner in zip(masks, fine, corners, strict=True):
            mask[...] = wide[tuple(slice(c, c + size) for c, size in zip(corner, self.spatial, strict=True))]
        return masks
