"""Builders of networks: input shape and number of classes in, a plain `keras.Model` out.

Every builder takes images in 0..255 and scales them inside the model.
"""

from recipes.models.all_conv import all_conv
from recipes.models.describe_backbone import BackboneFacts, describe_backbone
from recipes.models.efficientnet_lite0 import efficientnet_lite0, imagenet_class_names
from recipes.models.fold_batch_norm import fold_batch_norm
from recipes.models.mlp import mlp
from recipes.models.plain_cnn import plain_cnn
from recipes.models.resnet import resnet
from recipes.models.transfer import transfer, unfreeze
from recipes.models.unet import unet

__all__ = [
    "BackboneFacts",
    "all_conv",
    "describe_backbone",
    "efficientnet_lite0",
    "fold_batch_norm",
    "imagenet_class_names",
    "mlp",
    "plain_cnn",
    "resnet",
    "transfer",
    "unet",
    "unfreeze",
]
