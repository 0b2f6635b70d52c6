"""Small real data sets, and folders of images, as `tf.data`."""

from recipes.data.load import DatasetInfo, load
from recipes.data.pack import pack
from recipes.data.read import read_image

__all__ = ["DatasetInfo", "load", "pack", "read_image"]
