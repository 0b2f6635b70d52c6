"""What the first batch of each operation of `recipes.augment` costs, and how much of it is XLA's own compilation.

    python benchmarks/first_batch.py                           all operations at 32 and 224 px, about four minutes
    python benchmarks/first_batch.py --sides 32 --names Flip   only some

The figures are CPU seconds of this process, each measured once, for new pipelines as users write them: batches of
unknown size, uint8 in and out. "whole" is `apply`, which traces the function, plus the iterator and the first batch.
"compilation" is how much more the first batch costs with XLA than without it. "beside" is the rest.
"""

import argparse
import gc
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tables import heading, row

from recipes import augment

BATCHES = {32: 128, 224: 16}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[*BATCHES], choices=[*BATCHES])
    parser.add_argument("--names", nargs="+", help="operations to measure")
    arguments = parser.parse_args()
    for side in arguments.sides:
        images = np.random.default_rng(0).integers(0, 256, (BATCHES[side], side, side, 3), dtype="uint8")
        for compiled in (False, True):  # warms up: TensorFlow does some work once per process
            first_batch([augment.Brightness(0.1)], images, compiled)
        heading(
            *("", "whole, CPU s", "compilation", "beside"),
            title=f"First batch, {side}x{side}, {BATCHES[side]} images",
        )
        for name, chain in chains(side).items():
            if arguments.names and name not in arguments.names:
                continue
            plain, compiled = (first_batch(chain, images, choice) for choice in (False, True))
            built, first = first_batch(chain, images, "auto")
            compilation = max(compiled[1] - plain[1], 0.0)
            row(name, f"{built + first:.2f}", f"{compilation:.2f}", f"{built + first - compilation:.2f}")


def first_batch(chain, images, compiled):
    """CPU seconds until the iterator exists, and from then until its first batch."""
    batches = tf.data.Dataset.from_tensor_slices(images).batch(len(images))
    gc.collect()  # freeing earlier pipelines is not part of this one's cost
    start = time.process_time()
    pipeline = augment.Pipeline(chain, dtype="uint8", jit_compile=compiled)
    iterator = iter(pipeline.apply(batches, num_parallel_calls=1))
    built = time.process_time()
    next(iterator)
    return built - start, time.process_time() - built


def chains(side):
    """Every operation under its name, and some lists of several operations."""
    out = side * 7 // 16
    statistics = augment.ColorStatistics(
        np.float32([125, 123, 114]),
        np.float32([63, 62, 67]),
        np.float32([1e4, 1e3, 3e2]),
        np.eye(3, dtype="float32"),
    )
    given = {
        "Crop": (out,),
        "FancyPCA": (statistics,),
        "OneOf": ([augment.Rotate(), augment.Flip(), augment.Shear()],),
        "RandomResizedCrop": (out,),
        "SomeOf": ([augment.Rotate(), augment.Flip(), augment.Shear()], 2),
    }
    no_operations = {
        "ColorStatistics",
        "JensenShannonLoss",
        "Normalize",
        "Operation",
        "Pipeline",
        "PlusMinus",
        "standard",
    }
    single = [name for name in augment.__all__ if name not in no_operations]
    options = {"ScaleCrop": {"size": out, "short_side": (out, side)}, "RandAugment": {"space": "full"}}
    found = {name: [getattr(augment, name)(*given.get(name, ()), **options.get(name, {}))] for name in single}
    return {
        **found,
        "RandAugment, linear": [augment.RandAugment()],
        "blur and noise": [augment.GaussianBlur(), augment.GaussianNoise()],
        "standard, strong": augment.standard((side, side, 3), kind="photos", strength="strong").operations,
    }


if __name__ == "__main__":
    main()
