"""Explain networks: see which parts of an image decide, and test how far an explanation can be trusted.

    maps = explain.grad_cam(model, images)                 # where: (n, height, width) float32
    plot.overlay(images[0], maps[0])

Every attribution method has the same signature, `(model, images, target=None, *, own options, **options)`, with these
arguments:

    model       A built `keras.Model`: Sequential, Functional, nested, subclassed or loaded. It is never changed.
    images      The inputs of the model: `(n, height, width, channels)`, float or integer, in the model's own value
                range, or one image without the first axis. For several inputs, give a list in their order or a dict
                by name. Signals `(n, steps, channels)` and volumes `(n, depth, height, width, channels)` work
                in the same way.
    target      The output to explain. None is the predicted class. Other targets are an int, one int per image,
                one-hot rows, a `Unit`, a `Direction`, a sum of such targets, or `{output: target}` for a model with
                several outputs. A callable `(outputs) -> (n,)` gets logits under `score="logits"`.
                `mask_score`, `box_score`, `similarity_to`, `interval_score` and `token_score` make callables for
                segmentation, detection, embeddings, regression and text. One sigmoid counts as two classes, 0 and 1.
    options     `score`, `batch_size`, `wrt`, `data_format`, `compile`, `verbose`: see `AttributionOptions`. Methods
                that use the maps of a layer also take `layer`, `call_index`, `tokens`, `resize`, `return_layer`: see
                `LayerOptions`. Random methods take `seed`; the same noise is used for every image.

It returns raw values, float32 `(n, height, width)`, or `(height, width)` for one image without a batch axis.
"""

from recipes.common.backends import needing_tensorflow
from recipes.explain.adversarial.defenses import adversarial_training as adversarial_training
from recipes.explain.adversarial.defenses import consistency_training as consistency_training
from recipes.explain.adversarial.defenses import smoothed_predict as smoothed_predict
from recipes.explain.adversarial.fool import Fooled as Fooled
from recipes.explain.adversarial.fool import fool as fool
from recipes.explain.adversarial.pgd import fgsm as fgsm
from recipes.explain.adversarial.pgd import pgd as pgd
from recipes.explain.attribution.ablation_cam import ablation_cam as ablation_cam
from recipes.explain.attribution.attention import attention_relevance as attention_relevance
from recipes.explain.attribution.attention import attention_rollout as attention_rollout
from recipes.explain.attribution.class_activation_map import class_activation_map as class_activation_map
from recipes.explain.attribution.eigen_cam import eigen_cam as eigen_cam
from recipes.explain.attribution.expected_gradients import expected_gradients as expected_gradients
from recipes.explain.attribution.finer_cam import finer_cam as finer_cam
from recipes.explain.attribution.grad_cam import grad_cam as grad_cam
from recipes.explain.attribution.grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from recipes.explain.attribution.gradient_times_input import gradient_times_input as gradient_times_input
from recipes.explain.attribution.guided import deconvnet as deconvnet
from recipes.explain.attribution.guided import guided_backprop as guided_backprop
from recipes.explain.attribution.guided_grad_cam import guided_grad_cam as guided_grad_cam
from recipes.explain.attribution.hires_cam import hires_cam as hires_cam
from recipes.explain.attribution.integrated_gradients import integrated_gradients as integrated_gradients
from recipes.explain.attribution.layer_cam import layer_cam as layer_cam
from recipes.explain.attribution.layer_integrated_gradients import (
    layer_integrated_gradients as layer_integrated_gradients,
)
from recipes.explain.attribution.lrp import lrp as lrp
from recipes.explain.attribution.normalize_map import normalize_map as normalize_map
from recipes.explain.attribution.occlusion import occlusion as occlusion
from recipes.explain.attribution.rise import rise as rise
from recipes.explain.attribution.saliency import saliency as saliency
from recipes.explain.attribution.score_cam import score_cam as score_cam
from recipes.explain.attribution.smooth_grad import smooth_grad as smooth_grad
from recipes.explain.attribution.xgrad_cam import xgrad_cam as xgrad_cam
from recipes.explain.engine.objectives import Class as Class
from recipes.explain.engine.objectives import Direction as Direction
from recipes.explain.engine.objectives import Sum as Sum
from recipes.explain.engine.objectives import Unit as Unit
from recipes.explain.engine.options import AttackOptions as AttackOptions
from recipes.explain.engine.options import AttributionOptions as AttributionOptions
from recipes.explain.engine.options import ClassImageOptions as ClassImageOptions
from recipes.explain.engine.options import InspectionOptions as InspectionOptions
from recipes.explain.engine.options import LayerOptions as LayerOptions
from recipes.explain.engine.options import OptimizedOptions as OptimizedOptions
from recipes.explain.engine.options import PassOptions as PassOptions
from recipes.explain.engine.options import SynthesisOptions as SynthesisOptions
from recipes.explain.engine.target_scores import box_score as box_score
from recipes.explain.engine.target_scores import interval_score as interval_score
from recipes.explain.engine.target_scores import mask_score as mask_score
from recipes.explain.engine.target_scores import similarity_to as similarity_to
from recipes.explain.engine.target_scores import token_score as token_score
from recipes.explain.inspection.embed import embed as embed
from recipes.explain.inspection.embed import nearest_neighbors as nearest_neighbors
from recipes.explain.inspection.features import activations as activations
from recipes.explain.inspection.features import features as features
from recipes.explain.inspection.filters import filters as filters
from recipes.explain.inspection.loss_landscape import Landscape as Landscape
from recipes.explain.inspection.loss_landscape import loss_landscape as loss_landscape
from recipes.explain.inspection.maximal_patches import Patches as Patches
from recipes.explain.inspection.maximal_patches import maximal_patches as maximal_patches
from recipes.explain.inspection.noise_response import NoiseResponse as NoiseResponse
from recipes.explain.inspection.noise_response import noise_response as noise_response
from recipes.explain.inspection.receptive_field import ReceptiveField as ReceptiveField
from recipes.explain.inspection.receptive_field import receptive_field as receptive_field
from recipes.explain.inspection.segment import segment as segment
from recipes.explain.synthesis.class_image import class_image as class_image
from recipes.explain.synthesis.deep_dream import deep_dream as deep_dream
from recipes.explain.synthesis.facets import facets as facets
from recipes.explain.synthesis.fast_style import FastStyle as FastStyle
from recipes.explain.synthesis.invert_features import invert_features as invert_features
from recipes.explain.synthesis.texture import texture as texture
from recipes.explain.synthesis.transfer_style import transfer_style as transfer_style
from recipes.explain.synthesis.unit_image import unit_image as unit_image
from recipes.explain.trust.compare_attributions import compare as compare
from recipes.explain.trust.deletion import deletion as deletion
from recipes.explain.trust.deletion import insertion as insertion
from recipes.explain.trust.map_measures import completeness as completeness
from recipes.explain.trust.map_measures import infidelity as infidelity
from recipes.explain.trust.map_measures import max_sensitivity as max_sensitivity
from recipes.explain.trust.map_measures import randomized_logits as randomized_logits
from recipes.explain.trust.map_measures import sparseness as sparseness
from recipes.explain.trust.pointing_game import pointing_game as pointing_game
from recipes.explain.trust.pointing_over import Pointing as Pointing
from recipes.explain.trust.pointing_over import pointing_over as pointing_over
from recipes.explain.trust.road import Road as Road
from recipes.explain.trust.road import road as road
from recipes.explain.trust.sanity_check import sanity_check as sanity_check
from recipes.explain.trust.stability import stability as stability

__all__ = [
    "AttackOptions",
    "AttributionOptions",
    "Class",
    "ClassImageOptions",
    "Direction",
    "FastStyle",
    "Fooled",
    "InspectionOptions",
    "Landscape",
    "LayerOptions",
    "NoiseResponse",
    "OptimizedOptions",
    "PassOptions",
    "Patches",
    "Pointing",
    "ReceptiveField",
    "Road",
    "Sum",
    "SynthesisOptions",
    "Unit",
    "ablation_cam",
    "activations",
    "adversarial_training",
    "attention_relevance",
    "attention_rollout",
    "box_score",
    "class_activation_map",
    "class_image",
    "compare",
    "completeness",
    "consistency_training",
    "deconvnet",
    "deep_dream",
    "deletion",
    "eigen_cam",
    "embed",
    "expected_gradients",
    "facets",
    "features",
    "fgsm",
    "filters",
    "finer_cam",
    "fool",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient_times_input",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "infidelity",
    "insertion",
    "integrated_gradients",
    "interval_score",
    "invert_features",
    "layer_cam",
    "layer_integrated_gradients",
    "loss_landscape",
    "lrp",
    "mask_score",
    "max_sensitivity",
    "maximal_patches",
    "nearest_neighbors",
    "noise_response",
    "normalize_map",
    "occlusion",
    "pgd",
    "pointing_game",
    "pointing_over",
    "randomized_logits",
    "receptive_field",
    "rise",
    "road",
    "saliency",
    "sanity_check",
    "score_cam",
    "segment",
    "similarity_to",
    "smooth_grad",
    "smoothed_predict",
    "sparseness",
    "stability",
    "texture",
    "token_score",
    "transfer_style",
    "unit_image",
    "xgrad_cam",
]


def __dir__() -> list[str]:
    return __all__


globals().update(needing_tensorflow("recipes.explain", __all__, "on which explanations are computed"))
