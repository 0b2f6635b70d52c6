"""The first checks of every synthesis: the image shape of the model, the range of values, and start images."""

from typing import Any

import keras
import numpy as np

from recipes.common.validation import as_numbers
from recipes.explain.engine import layer_lookup
from recipes.explain.engine.errors import UsageError

DEFAULT_SIZE = 224


class Canvas:
    """The shape and range of the images of a model with one image input.

    Args:
        method: Name used in errors.
        model: A built `keras.Model` with one input `(n, height, width, channels)`, or channels first.
        size: `(height, width)` in pixels or one number for both, if the model does not fix them.
        value_range: `(low, high)` of the images.

    Attributes:
        shape: `(height, width, channels)` of one image; height and width are None if `size` is False and the model does
            not fix them.
        channels_first: Whether the model takes images with channels first; the images here have channels last.
        keys: How a tensor is packed for the model, see `recipes.explain.engine.inputs.pack`.

    Raises:
        UsageError: when the model, the size or the value range does not fit.
        TypeError: when `model` is not a `keras.Model`.
    """

    def __init__(
        self, method: str, model: keras.Model, *, size: Any = None, value_range: Any = (0, 255)
    ) -> None:
        self.method, self.model = method, model
        _check_model(method, model)
        self.value_range = check_range(method, value_range)
        self.channels_first = layer_lookup.data_format(model) == "channels_first"
        declared = getattr(model, "inputs", None)
        self.keys = "declared" if declared else None
        if declared:
            shapes = [tuple(tensor.shape) for tensor in declared]
        else:
            # A subclassed model takes other sizes than it was built with; only rank and channels are fixed.
            built = (getattr(model, "_build_shapes_dict", None) or {}).values()
            shapes = [(*[None] * (len(shape) - 1), shape[-1]) for shape in built if isinstance(shape, tuple)]
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise UsageError(
                f"{method} expects a model with one input (n, height, width, channels). Model '{model.name}' takes "
                f"{shapes or 'inputs of unknown shape'}. Wrap it in a keras.Model whose only input is the image."
            )
        _, *axes = shapes[0]
        height, width, channels = (*axes[1:], axes[0]) if self.channels_first else axes
        if declared and not str(declared[0].dtype).startswith(("float", "bfloat")):
            raise UsageError(
                f"{method} expects a float input to differentiate by. Input '{declared[0].name}' has dtype "
                f"{declared[0].dtype}. Rebuild the model with keras.Input(..., dtype='float32')."
            )
        if size is False:
            self.shape = (height, width, channels)
            return
        wanted = _size(method, size)
        if wanted is None:
            wanted = (height or DEFAULT_SIZE, width or DEFAULT_SIZE)
        if height not in (None, wanted[0]) or width not in (None, wanted[1]):
            raise UsageError(
                f"{method} expects images of the size that model '{model.name}' takes, {height} x {width}. Received "
                f"size={size}. Leave size out, or rebuild the model with keras.Input((None, None, {channels}))."
            )
        self.shape = (*wanted, channels)

    def unit(self, images: Any, name: str = "images", *, any_size: bool = False) -> Any:
        """Check images and scale them from the value range to 0..1.

        Returns:
            `(images, single)`: float32 `(n, height, width, channels)`, and whether one image without a batch axis was
            given.
        """
        images, single = self.batch(images, name, any_size=any_size)
        low, high = self.value_range
        return (images - low) / (high - low), single

    def batch(self, images: Any, name: str = "images", *, any_size: bool = False) -> Any:
        """Check the shape and range of images.

        Returns:
            `(images, single)`: float32 `(n, height, width, channels)`, and whether one image without a batch axis was
            given.
        """
        images = np.asarray(images)
        single = images.ndim == 3
        shape = (None, None, self.shape[-1]) if any_size else self.shape
        images = images[None] if single else images
        fits = images.ndim == 4 and all(
            want in (None, have) for want, have in zip(shape, images.shape[1:], strict=True)
        )
        if not fits or not len(images):
            raise UsageError(
                f"{self.method} expects {name} of shape (n, {', '.join(str(side or '...') for side in shape)}), or "
                f"one image without the first axis. Received shape {images.shape[1:] if single else images.shape}. "
                "Resize or stack them to that shape."
            )
        check_images(self.method, images, self.value_range, name)
        return images.astype("float32"), single


def _check_model(method, model):
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{method} expects a keras.Model. Received {type(model).__name__}. Wrap layers in keras.Sequential."
        )
    if not model.built:
        raise UsageError(
            f"{method} expects a built model. '{model.name}' has no weights yet. Call it on data once, or give it a "
            "keras.Input as its first layer."
        )


def check_range(method: str, value_range: Any) -> Any:
    """Check `value_range` and return `(low, high)` as floats."""
    values = np.ravel(as_numbers(method, "value_range", () if value_range is None else value_range))
    if values.shape != (2,) or not np.isfinite(values).all() or not values[0] < values[1]:
        raise UsageError(
            f"{method} expects value_range=(low, high) with low < high. Received {value_range!r}. "
            "Write the range that the model takes, such as (0, 255) or (0, 1)."
        )
    return float(values[0]), float(values[1])


def check_images(method: str, images: Any, value_range: Any, name: str = "images") -> None:
    """Raise when the images are not numbers, not finite, or outside the value range."""
    if images.dtype.kind not in "uifb":
        raise TypeError(
            f"{method} expects {name} to be numbers. Received dtype {images.dtype}. Stack images of one size with "
            "np.stack."
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise UsageError(
            f"{method} expects finite {name}. Received NaN or infinity. Look for a division by zero in their "
            "preprocessing."
        )
    low, high = value_range
    if images.size and (images.min() < low or images.max() > high):
        raise UsageError(
            f"{method} expects {name} within value_range=({low:g}, {high:g}). Received values in {images.min():g} ... "
            f"{images.max():g}. Give the range the model takes, as value_range=(low, high)."
        )


def _size(method, size):
    if size is None:
        return None
    sides = np.ravel(size)
    if sides.size not in (1, 2) or sides.dtype.kind not in "iu" or (sides < 1).any():
        raise UsageError(
            f"{method} expects size to be (height, width) in pixels, or one number for both. Received {size!r}. "
            "Leave it out for the model's own size."
        )
    return (int(sides[0]), int(sides[-1]))
