"""Augmentation of batches: operations are declared, compiled to a few passes, and exactly reproducible."""

from recipes.augment.engine.color_statistics import ColorStatistics as ColorStatistics
from recipes.augment.engine.magnitudes import PlusMinus as PlusMinus
from recipes.augment.engine.operation import Operation as Operation
from recipes.augment.jensen_shannon import JensenShannonLoss as JensenShannonLoss
from recipes.augment.operations.aug_mix import AugMix as AugMix
from recipes.augment.operations.auto_augment import AutoAugment as AutoAugment
from recipes.augment.operations.auto_contrast import AutoContrast as AutoContrast
from recipes.augment.operations.brightness import Brightness as Brightness
from recipes.augment.operations.color_jitter import ColorJitter as ColorJitter
from recipes.augment.operations.contrast import Contrast as Contrast
from recipes.augment.operations.crop import Crop as Crop
from recipes.augment.operations.cutmix import CutMix as CutMix
from recipes.augment.operations.cutout import Cutout as Cutout
from recipes.augment.operations.elastic import Elastic as Elastic
from recipes.augment.operations.equalize import Equalize as Equalize
from recipes.augment.operations.fancy_pca import FancyPCA as FancyPCA
from recipes.augment.operations.flip import Flip as Flip
from recipes.augment.operations.gaussian_blur import GaussianBlur as GaussianBlur
from recipes.augment.operations.gaussian_noise import GaussianNoise as GaussianNoise
from recipes.augment.operations.grayscale import Grayscale as Grayscale
from recipes.augment.operations.hue import Hue as Hue
from recipes.augment.operations.invert import Invert as Invert
from recipes.augment.operations.lens_distortion import LensDistortion as LensDistortion
from recipes.augment.operations.mixup import MixUp as MixUp
from recipes.augment.operations.normalize import Normalize as Normalize
from recipes.augment.operations.one_of import OneOf as OneOf
from recipes.augment.operations.pad_crop import PadCrop as PadCrop
from recipes.augment.operations.perspective import Perspective as Perspective
from recipes.augment.operations.posterize import Posterize as Posterize
from recipes.augment.operations.rand_augment import RandAugment as RandAugment
from recipes.augment.operations.random_erasing import RandomErasing as RandomErasing
from recipes.augment.operations.random_resized_crop import RandomResizedCrop as RandomResizedCrop
from recipes.augment.operations.rotate import Rotate as Rotate
from recipes.augment.operations.saturation import Saturation as Saturation
from recipes.augment.operations.scale_crop import ScaleCrop as ScaleCrop
from recipes.augment.operations.sharpness import Sharpness as Sharpness
from recipes.augment.operations.shear import Shear as Shear
from recipes.augment.operations.solarize import Solarize as Solarize
from recipes.augment.operations.some_of import SomeOf as SomeOf
from recipes.augment.operations.stretch import Stretch as Stretch
from recipes.augment.operations.translate import Translate as Translate
from recipes.augment.operations.trivial_augment import TrivialAugment as TrivialAugment
from recipes.augment.operations.zoom import Zoom as Zoom
from recipes.augment.pipeline import Pipeline as Pipeline
from recipes.augment.standard import standard as standard

__all__ = [
    "AugMix",
    "AutoAugment",
    "AutoContrast",
    "Brightness",
    "ColorJitter",
    "ColorStatistics",
    "Contrast",
    "Crop",
    "CutMix",
    "Cutout",
    "Elastic",
    "Equalize",
    "FancyPCA",
    "Flip",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Hue",
    "Invert",
    "JensenShannonLoss",
    "LensDistortion",
    "MixUp",
    "Normalize",
    "OneOf",
    "Operation",
    "PadCrop",
    "Perspective",
    "Pipeline",
    "PlusMinus",
    "Posterize",
    "RandAugment",
    "RandomErasing",
    "RandomResizedCrop",
    "Rotate",
    "Saturation",
    "ScaleCrop",
    "Sharpness",
    "Shear",
    "Solarize",
    "SomeOf",
    "Stretch",
    "Translate",
    "TrivialAugment",
    "Zoom",
    "standard",
]
