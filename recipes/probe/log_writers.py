"""Scalars and histograms for TensorBoard, from numbers that were counted inside the graph."""

from os import PathLike
from pathlib import Path

import numpy as np
import tensorflow as tf

from recipes.probe.tensorflow.histogram import BUCKETS

_HISTOGRAMS = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="histograms")
)


class TensorBoardWriter:
    """Event files in one folder of a TensorBoard log.

    Args:
        log_dir: Folder that is given to `tensorboard --logdir`.
        name: Sub-folder for what is written here.
    """

    def __init__(self, log_dir: str | PathLike[str], name: str) -> None:
        self._writer = tf.summary.create_file_writer(str(Path(log_dir) / name))

    def write(self, step: int, scalars: dict[str, float], histograms: dict[str, np.ndarray]) -> None:
        """Write one probe: `scalars` maps tags to numbers, `histograms` to rows as `histogram` gives them."""
        with self._writer.as_default(step=step):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, float(value))
            for tag, row in histograms.items():
                tf.summary.write(tag, _buckets(row), metadata=_HISTOGRAMS)

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


def _buckets(row):
    # TensorBoard's layout: (left edge, right edge, count), float64.
    low, high, counts = row[0], row[1], row[2:]
    edges = np.linspace(low, high if high > low else low + 1, BUCKETS + 1, dtype="float64")
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
