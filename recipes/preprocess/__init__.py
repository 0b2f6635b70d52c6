"""What the images of a data set have in common, and layers that take it out."""

from recipes.preprocess.image_statistics import ImageStatistics as ImageStatistics
from recipes.preprocess.standardize import Standardize as Standardize
from recipes.preprocess.whitening import Whitening as Whitening

__all__ = [
    "ImageStatistics",
    "Standardize",
    "Whitening",
]
