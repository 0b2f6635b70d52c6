"""Statistics of the images of a data set, and layers that standardize or whiten images with them."""

from recipes.preprocess.image_statistics import ImageStatistics as ImageStatistics
from recipes.preprocess.standardize import Standardize as Standardize
from recipes.preprocess.whitening import Whitening as Whitening

__all__ = [
    "ImageStatistics",
    "Standardize",
    "Whitening",
]
