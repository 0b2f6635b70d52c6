"""What a model takes and gives out, read from its graph."""

import keras


def model_input_rank(model):
    """Rank of the model's first input with its batch axis, or None for a subclassed model."""
    inputs = getattr(model, "inputs", None)
    return len(inputs[0].shape) if inputs else None


def output_activation(model):
    """ "softmax", "sigmoid", "linear", another name, or None where the graph cannot be read."""
    layer = _output_layer(model)
    if layer is None:
        return None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", "linear") if activation is not None else "linear"


def _output_layer(model):
    """The layer that decides what the first output means, or None where the graph cannot be read."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return None
    tensor = outputs[0]
    while True:
        layer = tensor._keras_history.operation
        if isinstance(layer, keras.Model):
            return _output_layer(layer)
        shape_only = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity, keras.layers.Dropout)
        passes_on = isinstance(layer, shape_only) or (
            isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
        )
        if not passes_on:
            return layer
        tensor = layer.input
