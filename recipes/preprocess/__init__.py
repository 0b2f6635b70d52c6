"""What a data set looks like on average, and layers that take that out."""

from recipes.preprocess.statistics import ImageStatistics as ImageStatistics
