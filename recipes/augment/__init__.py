"""Augmentation of batches: declarations that are compiled to a few passes, exactly reproducible."""

from recipes.augment.crop import Crop as Crop
from recipes.augment.crop import PadCrop as PadCrop
from recipes.augment.cutout import Cutout as Cutout
from recipes.augment.flip import Flip as Flip
from recipes.augment.mixup import MixUp as MixUp
from recipes.augment.normalize import Normalize as Normalize
from recipes.augment.operation import Operation as Operation
from recipes.augment.pipeline import Pipeline as Pipeline
from recipes.augment.ranges import PlusMinus as PlusMinus
from recipes.augment.statistics import ColorStatistics as ColorStatistics
