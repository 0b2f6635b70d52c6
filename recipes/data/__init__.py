"""Small real data sets, and folders of images, as `tf.data`."""

from recipes.data.load import DatasetInfo as DatasetInfo
from recipes.data.load import load as load
