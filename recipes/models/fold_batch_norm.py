"""Fold batch normalization into the layers before it, for a faster model that predicts the same."""

import warnings

import keras
import numpy as np

from recipes.common.traversal import graph_nodes, has_graph, layers_of, producer_of

SCALED_LAST = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)
SCALED_BEFORE_LAST = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
SCALED_LAST_TWO = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
FOLDABLE = (*SCALED_LAST, *SCALED_BEFORE_LAST, *SCALED_LAST_TWO)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return a model for inference in which each batch normalization after a linear layer is merged into that layer.

    `gain * (W x + b - mean) / sqrt(variance + epsilon) + offset` is itself of the form `W' x + b'`, so the scale
    moves into the kernel and the rest into the bias.
    Source: Jacob et al. 2017, section 3.2, equation 14, https://arxiv.org/abs/1712.05877

    The layers before may be Dense, ConvND, ConvNDTranspose, DepthwiseConvND and SeparableConvND, at any depth of
    nested models. The new model shares no weights with the given one and keeps its layer names. It predicts the same
    up to rounding. If you train it further, you train without batch normalization.

    Args:
        model: A built Functional or Sequential `keras.Model`.

    Returns:
        An uncompiled `keras.Model` of the same inputs and outputs.

    Warns:
        UserWarning: names each batch normalization that was not folded, with the reason. It may follow another kind of
            layer, lie inside a custom layer, or use the statistics of the batch at inference too.

    Raises:
        ValueError: when the model is subclassed, is not built or has no batch normalization, or when a layer is used
            several times with different normalizations after it. One kernel cannot hold several scales. The given
            model is never changed.

    Example:
        >>> fast = fold_batch_norm(keras.applications.MobileNetV2())
    """
    graph = _Graph(model)
    pairs, left = graph.pairs()
    if left:
        reasons = ", ".join(f"{name!r} ({reason})" for name, reason in left)
        warnings.warn(
            f"fold_batch_norm left in {model.name!r}: {reasons}. The returned model predicts the same and keeps these "
            "normalizations as layers.",
            stacklevel=2,
        )
    return _Copy(pairs).model(model)


class _Graph:
    """Which layer feeds which, over all nested models; a layer is one entry however often it is called."""

    def __init__(self, model):
        self.name = model.name
        self.layers = {}
        self.producers = {}
        self.consumers = {}
        self.calls = {}
        self.by_the_batch = set()
        self.models = set()
        self._read(model)

    def pairs(self):
        """A dictionary from foldable normalization to the layers it folds into, and the others with reasons."""
        norms = [
            layer for layer in self.layers.values() if isinstance(layer, keras.layers.BatchNormalization)
        ]
        left = [
            (inner.name, f"inside the layer {layer.name!r}")
            for layer in self.layers.values()
            if isinstance(layer, keras.Layer) and not isinstance(layer, keras.Model)
            for inner in layers_of(layer, keras.layers.BatchNormalization)
        ]
        if not norms and not left:
            raise ValueError(
                f"fold_batch_norm expects a model with batch normalization. Received {self.name!r}, which has none. "
                "Use the model as it is."
            )
        pairs = {}
        for norm in norms:
            producers = self.producers[id(norm)]
            reasons = [self._reason(norm, producer) for producer in producers]
            if id(norm) in self.by_the_batch:
                reasons = ["called with training=True"]
            if any(reasons):
                left.append((norm.name, next(filter(None, reasons))))
            else:
                pairs[id(norm)] = producers
        return pairs, left

    def _reason(self, norm, layer):
        """Why `norm` cannot be folded into the `layer` that feeds it, or nothing."""
        if type(layer) not in FOLDABLE:
            return f"follows {getattr(layer, 'name', 'the input')!r}, which is no convolution or dense layer"
        if layer.activation is not keras.activations.linear:
            return f"follows the activation inside {layer.name!r}"
        channels = 1 if getattr(layer, "data_format", None) == "channels_first" else norm.input_spec.ndim - 1
        if norm.axis % norm.input_spec.ndim != channels:
            return f"normalizes another axis than the channels of {layer.name!r}"
        others = [other for other in self.consumers[id(layer)] if other is not norm]
        if not others:
            return ""
        if self.calls[id(layer)] > 1:
            names = sorted({getattr(other, "name", "the output") for other in (norm, *others)})
            raise ValueError(
                f"fold_batch_norm expects each layer to feed one batch normalization. Received {layer.name!r}, which "
                f"is called {self.calls[id(layer)]} times and feeds {names}. Give each call a layer of its own."
            )
        return f"{layer.name!r} before it is also used by {getattr(others[0], 'name', 'the output')!r}"

    def _read(self, model):
        if id(model) in self.models:
            return
        self.models.add(id(model))
        if not isinstance(model, keras.Sequential) and not has_graph(model):
            raise ValueError(
                f"fold_batch_norm expects a Functional or Sequential model. Received {model.name!r} of type "
                f"{type(model).__name__}. Fold the Functional parts it is made of."
            )
        if not model.built:
            raise ValueError(
                f"fold_batch_norm expects a built model. Received {model.name!r}, which has no weights yet. "
                "Call model.build(input_shape), or the model on one batch, first."
            )
        if isinstance(model, keras.Sequential):
            self._read_sequence(model)
        else:
            self._read_nodes(model)

    def _read_sequence(self, model):
        before = None
        for layer in model.layers:
            self._connect(before, layer)
            before = layer
        self.consumers.setdefault(id(before), []).append(None)

    def _read_nodes(self, model):
        for node in graph_nodes(model):
            layer = node.operation
            if node.arguments.kwargs.get("training"):
                self.by_the_batch.add(id(layer))
            for tensor in node.input_tensors:
                self._connect(producer_of(tensor), layer, new_call=False)
            self.calls[id(layer)] = self.calls.get(id(layer), 0) + 1
        for tensor in model.outputs:
            self.consumers.setdefault(id(producer_of(tensor)), []).append(None)

    def _connect(self, before, layer, new_call=True):
        if id(layer) not in self.layers:
            self.layers[id(layer)] = layer
            if isinstance(layer, keras.Model):
                self._read(layer)
        self.producers.setdefault(id(layer), []).append(before)
        self.consumers.setdefault(id(before), []).append(layer)
        if new_call:
            self.calls[id(layer)] = self.calls.get(id(layer), 0) + 1


class _Copy:
    """Builds the same graph again, without the folded normalizations."""

    def __init__(self, pairs):
        self.pairs = pairs
        self.norm_after = {id(layer): norm for norm, layers in pairs.items() for layer in layers}
        self.norms = {}
        self.copies = {}
        self.removed = set()

    def model(self, model):
        copy = self._graph(model)
        for layer, new in self.copies.values():
            if id(layer) in self.norm_after:
                new.set_weights(_folded(layer, self.norms[self.norm_after[id(layer)]]))
            elif (
                isinstance(layer, keras.Layer)
                and not isinstance(layer, keras.Model)
                and id(layer) not in self.pairs
            ):
                new.set_weights(layer.get_weights())
        return copy

    def _graph(self, model):
        if isinstance(model, keras.Sequential):
            layers = [self._layer(layer) for layer in model.layers]
            kept = [layer for layer in layers if id(layer) not in self.removed]
            return keras.Sequential([_same_input(model.inputs[0]), *kept], name=model.name)
        # Only the graph, without the optimizer, loss and metrics of the compiled model.
        shell = keras.Model(model.input, model.output, name=model.name)
        inputs = keras.tree.map_structure(_same_input, model.input)
        return keras.models.clone_model(shell, inputs, clone_function=self._layer, call_function=self._call)

    def _layer(self, layer):
        if id(layer) not in self.copies:
            self.copies[id(layer)] = (layer, self._new(layer))
        return self.copies[id(layer)][1]

    def _new(self, layer):
        if isinstance(layer, keras.Model):
            return self._graph(layer)
        if not isinstance(layer, keras.Layer):
            return layer  # an operation such as keras.ops.pad, which has no state
        if id(layer) in self.pairs:
            self.norms[id(layer)] = layer
            placeholder = keras.layers.Identity()
            self.removed.add(id(placeholder))
            return placeholder
        config = layer.get_config()
        if id(layer) in self.norm_after:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    def _call(self, layer, *args, **kwargs):
        return args[0] if id(layer) in self.removed else layer(*args, **kwargs)


def _same_input(tensor):
    name = producer_of(tensor).name
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)


def _folded(layer, norm):
    """The layer's weights with the normalization folded in, computed in float64."""
    scale = 1 / np.sqrt(_double(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * _double(norm.gamma)
    *kernels, last = [_double(variable) for variable in layer.weights if variable is not layer.bias]
    if isinstance(layer, SCALED_LAST_TWO):
        last = last * scale.reshape(last.shape[-2:])
    elif isinstance(layer, SCALED_BEFORE_LAST):
        last = last * scale[:, None]
    else:
        last = last * scale
    bias = (
        -_double(norm.moving_mean) if layer.bias is None else _double(layer.bias) - _double(norm.moving_mean)
    )
    bias = bias * scale
    if norm.center:
        bias = bias + _double(norm.beta)
    return [*kernels, last, bias]


def _double(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")
