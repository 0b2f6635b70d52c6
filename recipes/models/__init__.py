"""Builders of networks: input shape and number of classes in, a plain `keras.Model` out.

Every builder takes images in 0..255 and scales them inside the model.
"""

from recipes.models.all_conv import all_conv as all_conv
from recipes.models.efficientnet_lite0 import efficientnet_lite0 as efficientnet_lite0
from recipes.models.efficientnet_lite0 import imagenet_class_names as imagenet_class_names
from recipes.models.fold_batch_norm import fold_batch_norm as fold_batch_norm
from recipes.models.mlp import mlp as mlp
from recipes.models.plain_cnn import plain_cnn as plain_cnn
from recipes.models.resnet import resnet as resnet
from recipes.models.transfer import transfer as transfer
from recipes.models.transfer import unfreeze as unfreeze
