"""See what a network looks at, and how far to trust the picture.

    maps = explain.grad_cam(model, images)                 # where: (n, height, width) float32
    plot.overlay(images[0], maps[0])

Every attribution has one signature, `(model, images, target=None, *, options)`, and takes these:

    model       A built `keras.Model`: Sequential, Functional, nested, subclassed, loaded. Never changed.
    images      What the model takes: `(n, height, width, channels)`, float or integer, in the model's own value
                range; or one image without the first axis; for several inputs a list in their order, or a dict
                by name. Signals `(n, steps, channels)` and volumes `(n, depth, height, width, channels)` work
                alike.
    target      What to explain. None: the predicted class. An int, one int per image, or one-hot rows. A
                callable `(outputs) -> (n,)`, which sees logits under `score="logits"`. A `Unit`.
                `{output: target}` where the model has several outputs. One sigmoid counts as two classes,
                0 and 1.
    score       "logits" (default): the value before the softmax or sigmoid; "probability": the output as it is.
    batch_size  The most evaluations done at once; bounds the memory, changes no result.
    wrt         Which of several inputs to explain, by name or position.
    compile     "auto" traces the model once per kind of pass and keeps the trace as long as the model lives,
                and runs models that cannot be traced eagerly. True, False: only the one or the other.
    seed        Repeats random methods; the same noise is used for every image. The others do not use it.
    verbose     "auto" shows a progress bar for long work; 0 never, 1 always.

and return raw values, float32 `(n, height, width)`, or `(height, width)` for one image without a batch axis.
"""

from recipes.backends import require_tensorflow
from recipes.explain.class_activation_map import class_activation_map as class_activation_map
from recipes.explain.class_image import class_image as class_image
from recipes.explain.compare import compare as compare
from recipes.explain.deep_dream import deep_dream as deep_dream
from recipes.explain.defenses import adversarial_training as adversarial_training
from recipes.explain.defenses import consistency_training as consistency_training
from recipes.explain.defenses import smoothed_predict as smoothed_predict
from recipes.explain.deletion import deletion as deletion
from recipes.explain.deletion import insertion as insertion
from recipes.explain.embed import embed as embed
from recipes.explain.embed import nearest_neighbors as nearest_neighbors
from recipes.explain.facets import facets as facets
from recipes.explain.fast_style import FastStyle as FastStyle
from recipes.explain.features import activations as activations
from recipes.explain.features import features as features
from recipes.explain.filters import filters as filters
from recipes.explain.fool import Fooled as Fooled
from recipes.explain.fool import fool as fool
from recipes.explain.grad_cam import grad_cam as grad_cam
from recipes.explain.grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from recipes.explain.gradient_times_input import gradient_times_input as gradient_times_input
from recipes.explain.guided import deconvnet as deconvnet
from recipes.explain.guided import guided_backprop as guided_backprop
from recipes.explain.guided_grad_cam import guided_grad_cam as guided_grad_cam
from recipes.explain.integrated_gradients import integrated_gradients as integrated_gradients
from recipes.explain.invert_features import invert_features as invert_features
from recipes.explain.layer_cam import layer_cam as layer_cam
from recipes.explain.loss_landscape import Landscape as Landscape
from recipes.explain.loss_landscape import loss_landscape as loss_landscape
from recipes.explain.maximal_patches import Patches as Patches
from recipes.explain.maximal_patches import maximal_patches as maximal_patches
from recipes.explain.noise_response import NoiseResponse as NoiseResponse
from recipes.explain.noise_response import noise_response as noise_response
from recipes.explain.normalize import normalize_map as normalize_map
from recipes.explain.occlusion import occlusion as occlusion
from recipes.explain.pgd import fgsm as fgsm
from recipes.explain.pgd import pgd as pgd
from recipes.explain.pointing_game import pointing_game as pointing_game
from recipes.explain.receptive_field import ReceptiveField as ReceptiveField
from recipes.explain.receptive_field import receptive_field as receptive_field
from recipes.explain.rise import rise as rise
from recipes.explain.saliency import saliency as saliency
from recipes.explain.sanity_check import sanity_check as sanity_check
from recipes.explain.score_cam import score_cam as score_cam
from recipes.explain.segment import segment as segment
from recipes.explain.smooth_grad import smooth_grad as smooth_grad
from recipes.explain.stability import stability as stability
from recipes.explain.targets import Unit as Unit
from recipes.explain.texture import texture as texture
from recipes.explain.transfer_style import transfer_style as transfer_style
from recipes.explain.unit_image import unit_image as unit_image

require_tensorflow("recipes.explain", "whose gradients it takes")
