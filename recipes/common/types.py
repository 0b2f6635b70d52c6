"""Types that annotations share."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import tensorflow as tf

#: A file or folder.
Path: TypeAlias = "str | PathLike[str]"
#: Images as numpy arrays, tensors or nested lists: `(n, height, width, channels)`, or one without the first axis.
Images: TypeAlias = "ArrayLike | tf.Tensor"
#: What a model takes: one array, a list of them in the order of its inputs, or a dict by name.
Inputs: TypeAlias = "Images | Sequence[Images] | Mapping[str, Images]"
#: Integer labels `(n,)`, or one-hot or soft labels `(n, classes)`.
Labels: TypeAlias = "ArrayLike | tf.Tensor"
#: A `tf.data.Dataset` of `(image, label)` or `(image, label, weight)`, or such a tuple of arrays.
Data: TypeAlias = "tf.data.Dataset | tuple[Any, ...] | list[Any]"
#: What to explain: None (the predicted class), an integer or one per image, one-hot labels, or `outputs -> (n,)`.
Target: TypeAlias = "int | ArrayLike | Callable[[Any], Any] | Mapping[str, Any] | None"
#: float32 numbers, as maps leave the library.
FloatArray: TypeAlias = NDArray[np.float32]
#: As in `keras.Model.fit`.
Verbose: TypeAlias = Literal["auto", 0, 1, 2]
#: `(height, width)` in pixels, or one number for a square.
Size: TypeAlias = "int | tuple[int, int]"
#: Smallest and largest value that pixels can have.
ValueRange: TypeAlias = tuple[float, float]


# What plots draw, described by the attributes they read, because `plot` may not import the packages that measure.


class PatchesLike(Protocol):
    """What `explain.maximal_patches` returns, the strongest first; without the first axis for a single channel.

    Attributes:
        patches: float32 `(channels, k, height, width, image channels)`, in the value range of the images.
        scores: float32 `(channels, k)`: the activations there.
        indices: int `(channels, k)`: the number of the image that each comes from.
        boxes: int `(channels, k, 4)`: top, left, bottom, right in that image, in pixels.
    """

    @property
    def patches(self) -> FloatArray: ...
    @property
    def scores(self) -> FloatArray: ...
    @property
    def indices(self) -> np.ndarray: ...
    @property
    def boxes(self) -> np.ndarray: ...


class NoiseResponseLike(Protocol):
    """What `explain.noise_response` returns.

    Attributes:
        images: float32 `(n, height, width, channels)`, the noise.
        probabilities: float32 `(n, classes)`, rows that sum to 1.
        classes: int64 `(n,)`, the predicted ones.
        share: float32 `(classes,)`, how often each was predicted, from 0 to 1.
        confidence: Mean probability of the predicted class, from 1 / classes to 1.
        entropy: Mean entropy of the probabilities, from 0 to log(classes), in nats.
    """

    @property
    def images(self) -> FloatArray: ...
    @property
    def probabilities(self) -> FloatArray: ...
    @property
    def classes(self) -> NDArray[np.int64]: ...
    @property
    def share(self) -> FloatArray: ...
    @property
    def confidence(self) -> float: ...
    @property
    def entropy(self) -> float: ...


class FooledLike(Protocol):
    """What `explain.fool` returns; without the first axis for one image.

    Attributes:
        images: float32 `(n, height, width, channels)` in the value range: what now passes for the target.
        difference: float32 of the same shape: `images` minus the originals.
        magnified: float32 of the same shape in the value range: the difference, ten times, around the middle.
        predicted: int `(n,)`, the class that the network now gives.
        success: bool `(n,)`, whether that is the target.
        steps: int `(n,)`, steps taken, >= 0.
        distance: float32 `(n,)`, Euclidean length of the difference in units of the value range.
    """

    @property
    def images(self) -> FloatArray: ...
    @property
    def difference(self) -> FloatArray: ...
    @property
    def magnified(self) -> FloatArray: ...
    @property
    def predicted(self) -> np.ndarray: ...
    @property
    def success(self) -> np.ndarray: ...
    @property
    def steps(self) -> np.ndarray: ...
    @property
    def distance(self) -> FloatArray: ...


class LandscapeLike(Protocol):
    """What `explain.loss_landscape` returns.

    Attributes:
        offsets: float32 `(points,)`: how far along each direction; 1 moves every filter by its own length.
        loss: float32 `(points,)`, or `(points, points)` with the first direction down and the second across.
        accuracy: The accuracy at the same points, from 0 to 1, or None where labels are not classes.
    """

    @property
    def offsets(self) -> FloatArray: ...
    @property
    def loss(self) -> FloatArray: ...
    @property
    def accuracy(self) -> FloatArray | Any: ...
