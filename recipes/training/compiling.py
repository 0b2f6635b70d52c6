"""How `recipes.train` compiles a model: the loss its last activation asks for, an optimizer by name, weight decay."""

from __future__ import annotations

import math
import warnings

import keras
import tensorflow as tf

from recipes.common.models import output_activation, output_layers, rebuild
from recipes.common.processes import is_first_process
from recipes.common.traversal import layers_of
from recipes.common.types import Verbose
from recipes.distribution import MultiWorkerStrategy
from recipes.layers import InstanceNormalization
from recipes.models.transfer import is_transfer
from recipes.optimizers import MuonSGD, make_layerwise, rate_factors
from recipes.training.accepted_data import Source
from recipes.training.maps import intersection_over_union
from recipes.training.settings import Settings
from recipes.training.unfreezing import stages_of


def in_strategy(
    model: keras.Model, strategy: tf.distribute.Strategy | None, verbose: Verbose = "auto"
) -> keras.Model:
    """The model itself, without a strategy or when it was built in its scope; else a clone of it built there.

    Args:
        model: Built, and not compiled unless in the strategy's scope.
        strategy: As `recipes.train` is given it.
        verbose: 0 prints nothing about layers that are made synchronized. Of several workers only the first prints.

    Raises:
        ValueError: for a strategy of several machines, a model compiled outside the strategy, one that Keras cannot
            clone.
    """
    if strategy is None:
        return model
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if several and not isinstance(strategy, MultiWorkerStrategy):
        raise ValueError(
            "recipes.train expects recipes.distribution.MultiWorkerStrategy for several machines: Keras 3 cannot fit "
            f"under TensorFlow's own. Received {type(strategy).__name__}. Take MultiWorkerStrategy(), which reads "
            "the same TF_CONFIG."
        )
    if getattr(model, "distribute_strategy", None) is strategy:
        if not several and strategy.num_replicas_in_sync > 1 and _own_statistics(model):
            warnings.warn(
                f"recipes.train expects BatchNormalization(synchronized=True) on {strategy.num_replicas_in_sync} "
                f"replicas. Received {', '.join(one.name for one in _own_statistics(model)[:3])} without it: each "
                "replica keeps statistics of its own, and only the first replica's are saved. Build the model with "
                "synchronized=True, or outside the strategy's scope.",
                stacklevel=3,
            )
        return model
    if model.compiled:
        raise ValueError(
            f"recipes.train expects a model compiled inside the scope of strategy=. Received {model.name!r}, "
            "compiled outside it. Build and compile it under `with strategy.scope():`."
        )
    try:
        with strategy.scope():
            clone = rebuild(model)
    except ValueError as error:
        raise ValueError(
            f"recipes.train expects a model that Keras can clone into strategy=. {error}. "
            "Build it under `with strategy.scope():`."
        ) from error
    clone.set_weights(model.get_weights())
    if strategy.num_replicas_in_sync > 1:
        _synchronize_batch_norm(clone, said=verbose != 0 and is_first_process())
    return clone


def _synchronize_batch_norm(model, said):
    own = _own_statistics(model)
    for layer in own:
        layer.synchronized = True
    if own and said:
        print(
            f"recipes.train: {len(own)} BatchNormalization layer{'s' * (len(own) > 1)} take{'s' * (len(own) == 1)} the "
            "statistics of all replicas (synchronized=True)."
        )


def _own_statistics(model):
    """Batch normalizations of which each replica has its own averages."""
    norms = layers_of(model, keras.layers.BatchNormalization)
    return [layer for layer in norms if layer.trainable and not layer.synchronized]


def compile_model(model: keras.Model, source: Source, label_spec: tf.TensorSpec, settings: Settings) -> bool:
    """Compile with the arguments of `train`, unless the model is compiled.

    Args:
        model: The model that will be trained.
        source: The training data, for the batch that "auto" scales the rate with.
        label_spec: Shape and dtype of a batch of labels after augmentation.
        settings: The arguments of `train`.

    Returns:
        True when the loss takes one-hot labels: integer labels then have to be turned into them.

    Raises:
        ValueError: for a loss or an optimizer that contradicts the model, the labels or another argument.
    """
    rows = label_spec.shape.rank in (2, 4)
    stages = stages_of(settings)
    if stages is not None:
        stages.prepare(model)
    if model.compiled:
        _refuse_one_hot_for_sparse_loss(model, label_spec, source)
        _set_rates(model, settings)
        return rows
    loss, one_hot = settings.loss, False
    if isinstance(loss, str) and loss == "auto":
        loss, one_hot = _loss(model, label_spec, settings.label_smoothing)
    with (settings.strategy or tf.distribute.get_strategy()).scope():
        optimizer = _optimizer(model, source, settings)
        model.compile(
            optimizer=optimizer, loss=loss, **_metrics(model, source, label_spec, one_hot, settings)
        )
    _set_rates(model, settings)
    return one_hot or rows


def _set_rates(model, settings):
    """Give the optimizer the factors of `rates=`, in place."""
    stages = stages_of(settings)
    if stages is not None:
        stages.take_optimizer(model)
    if settings.rates is not None:
        later = None if stages is None else stages.variables(model)
        make_layerwise(model.optimizer, rate_factors(model, settings.rates, later), settings.rates)
        model.train_function = None  # one of an earlier fit has other factors in its trace


def _metrics(model, source, label_spec, one_hot, settings):
    """The metrics of `compile`; for maps of classes their IoU is added to the default ones."""
    metrics = {"metrics": [_accuracy(model, one, settings) for one in settings.metrics]}
    automatic = isinstance(settings.loss, str) and settings.loss == "auto"
    if not automatic or "metrics" in settings.given or label_spec.shape.rank < 3:
        return metrics
    if one_hot and label_spec.shape.rank == 3:
        label_spec = tf.TensorSpec((*label_spec.shape, model.outputs[0].shape[-1]), label_spec.dtype)
    iou = intersection_over_union(model, label_spec, output_activation(model) == "linear")
    if len(source.element_spec) == 3 and source.element_spec[2].shape.rank >= 3:
        return {**metrics, "weighted_metrics": [iou]}  # pixels without a weight count for nothing here too
    return {"metrics": [*metrics["metrics"], iou]}


def _accuracy(model, metric, settings):
    """The accuracy of one logit, which is cut at 0; what Keras calls "accuracy" cuts at 0.5."""
    shape, loss = getattr(model, "output_shape", None), settings.loss
    one_logit = isinstance(shape, tuple) and shape[-1] == 1 and output_activation(model) == "linear"
    binary = (isinstance(loss, str) and loss == "auto") or getattr(loss, "from_logits", False)
    if metric in ("accuracy", "acc") and one_logit and binary:
        return keras.metrics.BinaryAccuracy(name=metric, threshold=0.0)
    return metric


def _refuse_one_hot_for_sparse_loss(model, label_spec, source):
    if (
        label_spec.shape.rank in (2, 4)
        and source.label_spec.shape.rank == label_spec.shape.rank - 1
        and "sparse" in str(model.loss).lower()
    ):
        raise ValueError(
            "recipes.train expects a loss that takes rows of class weights where augmentation mixes labels. Received "
            f"a model compiled with {model.loss}. Compile it with 'categorical_crossentropy'."
        )


def _loss(model, label_spec, smoothing):
    activation = output_activation(model)
    if activation not in ("softmax", "sigmoid", "linear"):
        raise ValueError(
            f"recipes.train expects a softmax, sigmoid or linear output, and a graph that it can read, to pick a loss. "
            f"Received {model.name!r} with output activation {activation}. Give loss=, or compile the model."
        )
    logits = activation == "linear"
    width = model.outputs[0].shape[-1]
    class_numbers = label_spec.shape.rank in (1, 3)
    if width == 1 or activation == "sigmoid":
        rows = class_numbers and width > 1
        return keras.losses.BinaryCrossentropy(from_logits=logits, label_smoothing=float(smoothing)), rows
    if class_numbers and not smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), False
    loss = keras.losses.CategoricalCrossentropy(from_logits=logits, label_smoothing=float(smoothing))
    return loss, class_numbers


def _optimizer(model, source, settings):
    optimizer, rate, decay = settings.optimizer, settings.learning_rate, settings.weight_decay
    if isinstance(optimizer, keras.optimizers.Optimizer):
        for name in ("learning_rate", "weight_decay"):
            if name in settings.given:
                raise ValueError(
                    f"recipes.train leaves an optimizer object as it is. Received {name}={getattr(settings, name)} "
                    f"with {type(optimizer).__name__}. Set it on the optimizer, or give the optimizer by name."
                )
        return optimizer
    name = str(optimizer).lower()
    if name == "auto":
        name = _chosen(model)
    if rate == "auto":
        batch = source.element_spec[1].shape[0] or settings.batch_size
        rate = _peak_rate(name, model, min(batch, source.examples or batch))
    if name in _WITH_MOMENTUM:
        momentum = 0.9
        # The papers' L2 shrinks a weight by rate x decay, and momentum carries that on 1 / (1 - momentum) times.
        common = {"momentum": momentum, "weight_decay": float(decay) / (1 - momentum) or None}
        if name == "sgd":
            made = keras.optimizers.SGD(rate, nesterov=True, **common)
        else:
            made = MuonSGD(rate, sgd_only=_classifiers(model), **common)
    else:
        made = keras.optimizers.get(name)
        made.learning_rate = rate
        if not (name == "adamw" and "weight_decay" not in settings.given):
            made.weight_decay = float(decay) or None
    # Kernels have two axes or more; biases, gains and offsets have one.
    spared = [variable for variable in model.variables if len(variable.shape) < 2]
    if spared and made.weight_decay:
        made.exclude_from_weight_decay(var_list=spared)
    return made


_WITH_MOMENTUM = ("sgd", "muon_sgd")


def _chosen(model):
    """The optimizer of "auto": Adam where something pretrained learns, or a new classifier alone; else MuonSGD."""
    if is_transfer(model):
        return "adam"
    learning = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
    frozen = [variable for variable in model.non_trainable_variables if len(variable.shape) > 1]
    return "adam" if len(learning) <= 1 and frozen else "muon_sgd"


def _peak_rate(name, model, batch):
    """The peak rate of "auto", from what benchmarks/defaults.py found best at a batch of 128."""
    normed = any(isinstance(layer, _NORMALIZING) for layer in layers_of(model))
    if name == "sgd":  # at 0.2 a network without normalization diverges
        return (0.2 if normed else 0.05) * batch / 128
    # The length of an orthogonalized update does not depend on the batch, its noise on the root of it.
    return (0.2 if normed else 0.1) * math.sqrt(batch / 128) if name == "muon_sgd" else 1e-3


_NORMALIZING = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    InstanceNormalization,
)


def _classifiers(model):
    """Places, from the end, of the kernels whose outputs are classes: of the layers that give them, or the last one."""
    kernels = {
        place - len(model.trainable_variables): variable
        for place, variable in enumerate(model.trainable_variables)
        if len(variable.shape) > 1
    }
    last = {id(variable) for layer in output_layers(model) for variable in layer.trainable_variables}
    return [place for place, kernel in kernels.items() if id(kernel) in last] or [*kernels][-1:]
