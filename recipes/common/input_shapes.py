"""Whether data fit the inputs of a model, said before Keras tries them: what it takes, what they are, what to do."""

import math
from typing import Any

import keras

from recipes.common.validation import looks_channels_first

_TO_THREE = {1: "tf.image.grayscale_to_rgb", 4: "lambda image: image[..., :3]"}


def check_inputs(caller: str, name: str, model: Any, inputs: Any, *, trained: bool = False) -> None:
    """Refuse data whose inputs the graph of a model cannot take; a side that either of them leaves open fits.

    A model without a graph, or with a `call` of its own, is left alone. As in Keras, an axis of length 1 at the end may
    be missing or too much.

    Args:
        caller: The public function, named in errors.
        name: The argument of that function, named in errors.
        model: The model that will read the data.
        inputs: Batches: an array, a tensor or a `tf.TensorSpec` `(batch, ...)`, or a structure of such.
        trained: Whether the model is trained, so that only the data can be changed.

    Raises:
        ValueError: for another number of inputs, or another shape.
    """
    wanted = _inputs_of(model)
    given = _in_order(wanted, inputs)
    if not wanted or given is None:
        return
    if len(given) != len(wanted):
        names = ", ".join(repr(one.name) for one in wanted)
        raise ValueError(
            f"{caller} expects {name} to give {_count(len(wanted))} with each example, as the model takes"
            f"{f': {names}' if len(wanted) > 1 else ''}. Received {_count(len(given))}. "
            + (
                "Map them to a dict of these names, (dict, label)."
                if len(wanted) > 1
                else "Give the image alone, as (image, label)."
            )
        )
    for one, tensor in zip(wanted, given, strict=True):
        shape = _shape(tensor)
        if shape is None or _fits(tuple(one.shape[1:]), shape[1:]):
            continue
        which = f" as {one.name!r}" if len(wanted) > 1 else ""
        takes = tuple(one.shape[1:])
        raise ValueError(
            f"{caller} expects {_told(takes)}{which} in {name}, which the model takes. Received {_told(shape[1:])}. "
            f"{what_to_do(takes, shape[1:], trained)}"
        )


def first_input(model: Any, inputs: Any) -> Any:
    """Of the inputs in an element of a data set, the one that the model takes first."""
    return (_in_order(_inputs_of(model), inputs) or keras.tree.flatten(inputs))[0]


def what_to_do(takes: tuple[int | None, ...], given: tuple[int | None, ...], trained: bool = False) -> str:
    """The sentence that says how data of one shape and a model of another come together.

    Args:
        takes: Shape of the model's input, without the batch.
        given: Shape of an example.
        trained: Whether the model is trained, so that only the data can be changed.
    """
    known = None not in takes and None not in given
    if len(given) == len(takes) - 1 == 2 and takes[2] not in (1, None):
        return f"Give gray images {takes[2]} channels: np.stack([x] * {takes[2]}, axis=-1)."
    if len(given) == len(takes) - 1 and _same(takes[:-1], given):
        return "Add the missing axis, for gray images: x[..., None]."
    if len(given) == len(takes) + 1 and _same(takes, given[1:]):
        return "Batch once: dataset.batch(n)."
    if known and len(takes) == 1 and math.prod(given) == takes[0]:
        other = "" if trained else ", or begin the model with keras.layers.Flatten()"
        return f"Flatten them, x.reshape(len(x), -1){other}."
    if known and len(given) == 1 and math.prod(takes) == given[0]:
        return f"Give them that shape: x.reshape((-1, {', '.join(map(str, takes))}))."
    if len(takes) == len(given) == 3:
        return _of_images(takes, given, trained)
    if trained or None in given:
        return "Give examples of the shape that it takes."
    return f"Build the model for them, with keras.Input({given})."


def _of_images(takes, given, trained):
    if looks_channels_first(*given) and _same(takes, (*given[1:], given[0])):
        return "Move the channels to the end: np.moveaxis(x, 1, -1)."
    steps = []
    if not _same(takes[:2], given[:2]):
        height, width = (mine or other for mine, other in zip(takes, given[:2], strict=False))
        size = height if height == width else (height, width)
        steps.append(f"Read them at that size, data.load(..., image_size={size})")
    if not _same(takes[2:], given[2:]):
        gray = "tf.image.rgb_to_grayscale" if (takes[2], given[2]) == (1, 3) else None
        function = _TO_THREE.get(given[2]) if takes[2] == 3 else gray
        if function is not None or trained:
            start, how = "give" if steps else "Give", f", with {function}" if function else ""
            steps.append(f"{start} them {takes[2]} channel{'s' if takes[2] > 1 else ''}{how}")
    build = ("or build" if steps else "Build") + " the model for them, with info.image_shape"
    if trained:
        return f"{' and '.join(steps)}."
    return f"{', '.join([' and '.join(steps), build] if steps else [build])}."


def _inputs_of(model):
    """The inputs of a graph that Keras calls itself; empty where what the model takes is not known."""
    inputs = getattr(model, "inputs", None)
    if not isinstance(inputs, (list, tuple)) or not getattr(type(model).call, "__module__", "").startswith(
        "keras."
    ):
        return ()
    optional = [getattr(getattr(one, "_keras_history", (None,))[0], "optional", False) for one in inputs]
    return () if any(optional) else tuple(inputs)


def _in_order(wanted, inputs):
    """The tensors in the order of the model's inputs; None where only Keras can tell which is which."""
    if not isinstance(inputs, dict):
        return keras.tree.flatten(inputs)
    names = [one.name for one in wanted]
    if set(names) <= set(inputs):
        return [inputs[name] for name in names]
    return list(inputs.values()) if len(inputs) < len(names) else None


def _shape(tensor):
    shape = getattr(tensor, "shape", None)
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    return tuple(shape)


def _fits(takes, given):
    if len(given) == len(takes) + 1 and given[-1] in (1, None):
        given = given[:-1]
    elif len(given) == len(takes) - 1 and takes[-1] == 1:
        takes = takes[:-1]
    return _same(takes, given)


def _same(takes, given):
    return len(takes) == len(given) and all(
        None in pair or pair[0] == pair[1] for pair in zip(takes, given, strict=True)
    )


def _told(shape):
    if len(shape) == 3:
        return "images of " + " x ".join("any" if side is None else str(side) for side in shape)
    return f"examples of shape {shape}"


def _count(number):
    return "1 input" if number == 1 else f"{number} inputs"
