"""Transformers of keras-hub without weights: grids of tokens, and attention where it is that of the whole image."""

import keras
import numpy as np
import pytest

from recipes import explain

hub = pytest.importorskip("keras_hub").models
pytestmark = pytest.mark.slow

IMAGE = (32, 48, 3)


def vit():
    backbone = hub.ViTBackbone(IMAGE, (8, 8), 2, 2, 16, 32)
    return hub.ViTImageClassifier(backbone, 3, preprocessor=None), "vit_encoder/transformer_block_1"


def deit():
    backbone = hub.DeiTBackbone(IMAGE, 8, 2, 2, 16, 32)
    return hub.DeiTImageClassifier(backbone, 3, preprocessor=None), "deit_encoder/transformer_block_1"


def swin():
    backbone = hub.SwinTransformerBackbone(
        image_shape=IMAGE, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=2
    )
    return hub.SwinTransformerImageClassifier(backbone, 3, preprocessor=None), "stage_1/blocks_0"


def mit():
    backbone = hub.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=(32, 32, 3),
        hidden_dims=[8, 16],
    )
    return hub.MiTImageClassifier(backbone, 3, preprocessor=None), "hierarchical_encoder_1_0"


@pytest.mark.parametrize(("build", "grid"), [(vit, (4, 6)), (deit, (4, 6)), (swin, (4, 6)), (mit, (4, 4))])
def test_the_grid_of_a_hub_model_is_found(build, grid):
    keras.utils.set_random_seed(0)
    model, layer = build()
    images = np.random.default_rng(0).uniform(size=(2, *model.inputs[0].shape[1:])).astype("float32")
    path = f"{model.backbone.name}/{layer}"
    assert explain.grad_cam(model, images, 1, layer=path, resize=False, relu=False).shape == (2, *grid)
    if build in (vit, deit):
        for method in (explain.attention_rollout, explain.attention_relevance):
            maps = method(model, images, 1, resize=False)
            assert maps.shape == (2, *grid) and maps.min() >= 0 and maps.max() > 0
    else:
        with pytest.raises(ValueError, match="same tokens of the whole image|has none that can be seen"):
            explain.attention_relevance(model, images, 1)
