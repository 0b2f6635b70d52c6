"""Check the user's `images` and bring them into the form that the model takes."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.common.traversal import input_structure
from recipes.explain.engine.errors import UsageError


class Inputs:
    """The images (and other inputs) to explain, checked; converted to tensors only chunk by chunk.

    Args:
        model: A built `keras.Model`.
        images: Array `(n, *shape)`, one image `(*shape)`, or for several inputs a list in their order or a
            dict by name.
        wrt: Which of several inputs to explain, by name or position; None for the only one with spatial axes.
        method: Name used in errors.

    Attributes:
        arrays: One numpy array per input, batch first, in the dtype that was given.
        count: Number of images.
        single: Whether one image without a batch axis was given.
        wrt: Position of the explained input.
        images: `arrays[wrt]`.
        keys: How tensors are packed for the model (see `pack`); hashable.

    Raises:
        UsageError: when the model is not built or the arrays do not fit it.
        TypeError: when `model` is not a `keras.Model` or an array does not hold numbers.
    """

    def __init__(self, model: keras.Model, images: Any, *, wrt: Any = None, method: str = "explain") -> None:
        self.model, self.method = model, method
        self._check_built()
        self.keys, arrays = self._split(images)
        shapes = self._shapes(len(arrays))
        self.arrays, singles = [], set()
        for name, array, shape in zip(self.names, arrays, shapes, strict=True):
            array = self._as_numbers(array, name)
            rank = len(shape) if shape else 4
            if array.ndim == rank - 1:
                array, single = array[None], True
            else:
                single = False
            self._check_shape(array, shape, name, rank, single)
            singles.add(single)
            self.arrays.append(array)
        if len(singles) > 1 or len({len(array) for array in self.arrays}) > 1:
            raise UsageError(
                f"{method} expects the same number of examples for every input. Received "
                f"{[array.shape for array in self.arrays]} for inputs {self.names}. Give each input the same batch."
            )
        self.single, self.count = singles.pop(), len(self.arrays[0])
        self.wrt = self._choose(wrt)
        self.images = self.arrays[self.wrt]

    def tensors(self, rows: Any, images: Any = None) -> Any:
        """The inputs of the given rows (a slice or an index array) as a flat list of tensors.

        Args:
            rows: The examples.
            images: Values that replace the explained input in those rows, or None.
        """
        chosen = [array[rows] for array in self.arrays]
        if images is not None:
            chosen[self.wrt] = images
        return [tf.cast(array, dtype) for array, dtype in zip(chosen, self.dtypes, strict=True)]

    def need_gradient(self) -> None:
        """Raise when the explained input cannot be differentiated."""
        dtype = self.dtypes[self.wrt]
        if not tf.as_dtype(dtype).is_floating:
            raise UsageError(
                f"{self.method} expects a float input to differentiate by. Input '{self.names[self.wrt]}' of model "
                f"'{self.model.name}' has dtype {dtype}. Choose another with wrt=, or rebuild the model with "
                "keras.Input(..., dtype='float32')."
            )

    def _check_built(self):
        if not isinstance(self.model, keras.Model):
            raise TypeError(
                f"{self.method} expects a keras.Model. Received {type(self.model).__name__}. "
                "Wrap layers in keras.Sequential, or functions in a subclass of keras.Model."
            )
        if not self.model.built:
            raise UsageError(
                f"{self.method} expects a built model. '{self.model.name}' has no weights yet. Call it on data "
                "once, or give it a keras.Input as its first layer."
            )

    def _split(self, images):
        declared = getattr(self.model, "inputs", None)
        if declared:
            self.names = [tensor.name for tensor in declared]
            self.dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in declared]
            if len(declared) == 1 and not isinstance(images, dict):
                return "declared", [images]
            return "declared", self._in_order(images)
        if isinstance(images, dict):
            self.names = sorted(images)
            keys, arrays = tuple(self.names), [images[name] for name in self.names]
        elif isinstance(images, (list, tuple)) and len(images) and np.ndim(images[0]) > 2:
            self.names = list(range(len(images)))
            keys, arrays = len(images), list(images)
        else:
            self.names, keys, arrays = ["images"], None, [images]
        arrays = [np.asarray(array) for array in arrays]
        whole = [array.dtype.kind in "iu" and array.ndim < 3 for array in arrays]
        self.dtypes = ["int32" if tokens else "float32" for tokens in whole]
        return keys, arrays

    def _in_order(self, images):
        if isinstance(images, dict):
            struct = input_structure(self.model)
            names = sorted(struct) if isinstance(struct, dict) else self.names
            if set(images) == set(names):
                return [images[name] for name in names]
            if set(images) == set(self.names):
                return [images[name] for name in self.names]
        elif isinstance(images, (list, tuple)) and len(images) == len(self.names):
            return list(images)
        received = sorted(images) if isinstance(images, dict) else type(images).__name__
        raise UsageError(
            f"{self.method} expects a list of {len(self.names)} arrays or a dict, for inputs {self.names}. "
            f"Received {received}. Give every input of the model, in that order or by those names."
        )

    def _shapes(self, count):
        declared = getattr(self.model, "inputs", None)
        if declared:
            return [tuple(tensor.shape) for tensor in declared]
        built = getattr(self.model, "_build_shapes_dict", None) or {}
        shapes = list(built.values())
        if count == 1 and len(shapes) == 1 and isinstance(shapes[0], tuple):
            # A subclassed model also takes other sizes than it was built with; only rank and channels are fixed.
            return [(*[None] * (len(shapes[0]) - 1), shapes[0][-1])]
        return [None] * count

    def _as_numbers(self, array, name):
        try:
            array = np.asarray(array)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "uifb":
            raise TypeError(
                f"{self.method} expects an array of numbers for input '{name}'. Received dtype "
                f"{array.dtype}. "
                "Stack images of one size with np.stack."
            )
        return array

    def _check_shape(self, array, shape, name, rank, single):
        received = array.shape[1:] if single else array.shape
        depth = array.shape[-1] if array.ndim else 0
        fits = array.ndim == rank and all(
            want is None or have == want
            for have, want in zip(array.shape[1:], (shape or [None] * rank)[1:], strict=True)
        )
        if not fits:
            wanted = "(n, height, width, channels)" if not shape else str(("n", *shape[1:])).replace("'", "")
            hint = "Resize or stack the images to that shape."
            if shape and shape[-1] == 1 and depth != 1:
                hint = "Add the channel axis with images[..., None]."
            raise UsageError(
                f"{self.method} expects input '{name}' of shape {wanted}, or one image without the first axis. "
                f"Received shape {received}. {hint}"
            )
        if not len(array):
            raise UsageError(
                f"{self.method} expects at least one image. Received shape {received}. Pass some images."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
            raise UsageError(
                f"{self.method} expects finite images. Received NaN or infinity in {len(bad)} of {len(array)}, the "
                f"first at index {bad[0]}. Look for a division by zero in their preprocessing."
            )

    def _choose(self, wrt):
        if isinstance(wrt, str) and wrt in self.names:
            return self.names.index(wrt)
        if isinstance(wrt, int) and not isinstance(wrt, bool) and -len(self.names) <= wrt < len(self.names):
            return wrt % len(self.names)
        images = [i for i, array in enumerate(self.arrays) if array.ndim >= 3]
        if wrt is None and len(self.names) == 1:
            return 0
        if wrt is None and len(images) == 1:
            return images[0]
        received = "several that may be meant" if wrt is None else f"wrt={wrt!r}"
        raise UsageError(
            f"{self.method} expects one input to explain. Received {received}. "
            f"Choose with wrt= among {self.names}."
        )


def pack(model: keras.Model, tensors: Sequence[Any], keys: Any) -> Any:
    """Pack a flat list of tensors into the structure that `model(...)` takes.

    Args:
        model: A built `keras.Model`.
        tensors: One tensor per input.
        keys: "declared" (the structure of the model's inputs), a tuple of names (a dict), a number (a list), or None
            (the tensor itself).
    """
    if keys == "declared":
        return keras.tree.pack_sequence_as(input_structure(model), list(tensors))
    if keys is None:
        return tensors[0]
    return list(tensors) if isinstance(keys, int) else dict(zip(keys, tensors, strict=True))


def see(images: Any, preprocess: Callable[..., Any] | None, channels_first: bool) -> Any:
    """Preprocess images in the value range, and transpose them for a model with channels first."""
    seen = images if preprocess is None else preprocess(images)
    return tf.transpose(seen, [0, 3, 1, 2]) if channels_first else seen
