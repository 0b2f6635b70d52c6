"""The options that many functions of `recipes.explain` share, with their types, defaults and checks in one place.

    @shares(AttributionOptions, score="probability")
    def occlusion(model, images, target=None, *, patch=16, **options: Unpack[AttributionOptions]): ...

An editor completes the names of the `TypedDict`, `help()` shows them with their defaults, and the function receives all
options after they were checked.
"""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar

import keras
import numpy as np
from numpy.typing import ArrayLike

from recipes.common.types import Verbose
from recipes.common.validation import check_seed, is_one_of, is_whole
from recipes.explain.engine.errors import UsageError

if TYPE_CHECKING:
    from recipes.explain.engine.objectives import Class, Direction, Sum, Unit

Function = TypeVar("Function", bound=Callable[..., Any])

#: The target to explain: None (the predicted class), a class number or one per image, one-hot rows, a function
#: `outputs -> (n,)`, a `Unit`, a `Direction`, a sum of these, or `{output: target}`.
Target: TypeAlias = (
    "int | ArrayLike | Callable[[Any], Any] | Mapping[str, Any] | Unit | Direction | Class | Sum | None"
)
#: "auto" traces a model, or runs it eagerly if it cannot be traced; True only traces, False only runs eagerly.
Compile: TypeAlias = Literal["auto", True, False]
#: The value before the softmax or sigmoid, or the output as it is.
Score: TypeAlias = Literal["logits", "probability"]
#: How channels are reduced; None keeps them.
Reduce: TypeAlias = Literal["absmax", "mean", "sum", "l2"] | None
#: The values that replace removed pixels: a number, the image's mean color, the blurred image, or an array.
Baseline: TypeAlias = float | Literal["mean", "blur"] | np.ndarray
#: A layer by object, by name, by `"outer/inner"` path, or by index.
Layer: TypeAlias = keras.layers.Layer | str | int
#: Function from images in the value range to the inputs of the model.
Preprocess: TypeAlias = Callable[[Any], Any] | None


class PassOptions(TypedDict, total=False):
    """Options of every function that runs a model over many images."""

    batch_size: int
    """Largest number of evaluations at once, >= 1. It limits the memory and does not change the result."""
    compile: Compile
    """"auto" traces the model once per kind of pass, keeps the trace as long as the model lives, and runs models that
    cannot be traced eagerly. True only traces, False only runs eagerly."""


class AttributionOptions(PassOptions, total=False):
    """Options of every attribution, with `batch_size` and `compile`."""

    score: Score
    """"logits": the value before the softmax or sigmoid; "probability": the output as it is."""
    wrt: str | int | None
    """The input to explain, by name or position, if the model has several."""
    data_format: Literal["channels_last", "channels_first"] | None
    """The position of the images' channels. None finds it from the images and the first layers of the model, and raises
    if both fit."""
    verbose: Verbose
    """"auto" shows a progress bar for long work, 0 never, 1 always."""


class LayerOptions(AttributionOptions, total=False):
    """Options of every attribution that uses the maps of a layer: those of `AttributionOptions`, and these."""

    layer: Layer | None
    """The layer whose maps are used: a layer object, a name, an "outer/inner" path or an index. None takes the last
    feature map before the head, also inside a nested base model."""
    call_index: int | None
    """Number of the call of a shared layer, from 0, in the order of the code (of execution in a subclassed model)."""
    tokens: tuple[int, int] | None
    """`(rows, columns)` folds a transformer layer `(n, tokens, channels)` to its grid, without leading class tokens.
    None takes the grid of the map from which the tokens were made, or a grid in the proportions of the image."""
    resize: bool
    """Whether to resize the maps to the image, linearly with aligned pixel centers; False keeps the layer's grid."""
    return_layer: bool
    """Whether to return the name of the layer too: `(maps, name)`."""


class InspectionOptions(PassOptions, total=False):
    """Options of functions that run a model on images, with `batch_size` and `compile`."""

    preprocess: Preprocess
    """Function from images in `value_range` to the inputs of the model, such as
    `keras.applications.vgg16.preprocess_input`. None if the model takes the images unchanged."""


class AttackOptions(InspectionOptions, total=False):
    """Options of every attack within a given distance: those of `InspectionOptions`, and these."""

    norm: Literal["inf", "l2"]
    """"inf" limits the largest change of a value, "l2" the Euclidean length of all changes of an image."""
    targeted: bool
    """True decreases the loss of the given classes, False increases it."""


class SynthesisOptions(TypedDict, total=False):
    """Options of every synthesized image."""

    steps: int
    """Number of ascent steps, >= 1."""
    learning_rate: float | None
    """Step size, in units of the parameters; None takes the optimizer's own."""
    value_range: tuple[float, float]
    """`(low, high)` of the images that the model (or `preprocess`) takes."""
    preprocess: Preprocess
    """Function from images in `value_range` to the inputs of the model, such as
    `keras.applications.vgg16.preprocess_input`. None if the model takes the images unchanged."""
    seed: int
    """Integer that fixes the start and the random views; the same seed gives the same image."""
    return_scores: bool
    """Whether to return the objective before every step too, float32 `(steps, n)`."""
    compile: Compile
    """As in `AttributionOptions`."""
    verbose: Verbose
    """As in `AttributionOptions`."""


class OptimizedOptions(SynthesisOptions, total=False):
    """Options of every synthesized image that starts from noise: those of `SynthesisOptions`, and these."""

    parameterization: Literal["fourier", "pixels"]
    """"fourier" optimizes Fourier coefficients of decorrelated colors (Olah et al. 2017), "pixels" the pixel values."""
    optimizer: Literal["adam", "normalized", "gradient", "l-bfgs"] | None
    """"normalized" divides the gradient by its root mean square; "l-bfgs" is scipy's."""


class ClassImageOptions(OptimizedOptions, total=False):
    """Options of `class_image`, `unit_image` and `facets`: those of `OptimizedOptions`, and these."""

    size: int | tuple[int, int] | None
    """`(height, width)` in pixels or one number for both, if the model does not fix them; 224 by default."""
    l2: float | None
    """Weight of the squared distance from gray, |I|^2 with the range scaled to -1..1, >= 0. None means 1e-4 for pixels,
    0 for Fourier; with `generator` it applies to the latent vector, 0.005 as in Nguyen et al. 2016."""
    l1: float
    """Weight of the mean absolute distance from gray, with the range scaled to -1..1, >= 0."""
    total_variation: float | None
    """Weight of the mean squared difference between neighbors, with the range scaled to -1..1, >= 0. None means 0."""
    diversity: float
    """Weight of the similarity between several images of one target, >= 0, which is reduced: the mean cosine of their
    Gram matrices (Olah et al. 2017, section "Diversity"). Ask for several images with `[130] * 4`."""
    diversity_layer: Layer | None
    """The layer whose Gram matrices are compared. None is the layer of a `Unit` target, else the last feature map."""
    frequency_power: float | None
    """Power of the frequency by which Fourier coefficients are divided, >= 0. 1 treats all frequencies alike (Olah et
    al. 2017), more favors large shapes. None means 1.15, or 1 for small images."""
    coarse: float | None
    """Number of waves across the longer side at the start. Finer waves are added until 60 % of the steps, so that large
    shapes come first. 0 uses all from the start. None means 6, or 0 for small images and pixels. Not with "l-bfgs"."""
    anneal: bool | None
    """Whether to decrease the learning rate to 0 along half a cosine, which softens contrast. None means False."""
    decay: float
    """Fraction of the distance from gray removed at each step, in [0, 1). For pixels only, like the next four."""
    blur: float
    """Standard deviation in pixels of a Gaussian blur, >= 0; 0 does not blur."""
    blur_every: int
    """Number of steps between two blurs."""
    clip_pixels: float
    """Fraction of pixels, those nearest to gray, that are set to gray at each step."""
    clip_gradients: float
    """Fraction of pixels, those that contribute least to the score, that are set to gray at each step."""
    jitter: int | None
    """Largest random shift in pixels in each direction. None means 3/56 of the image, 1/16 for small images, 0 for
    pixels."""
    scale: float | None
    """Largest random change of size; 0.1 means 0.9 ... 1.1. None means 0.3, 0.1 for small images, 0 for pixels."""
    rotate: float | None
    """Largest random rotation in degrees in each direction. None means 10, or 0 for small images and pixels."""
    pad: int | None
    """Width in pixels of the gray border that the model sees around the image, >= 0; with 0 the borders wrap around.
    None means 3/28 of the image, or 0 for small images and pixels."""
    second_jitter: int | None
    """Largest random shift in pixels after scaling and rotation. None means 1/112 of the image, or 0 for small images
    and pixels."""
    start: Any
    """Image or images in `value_range` to start from; None is gray with a little noise."""
    generator: keras.Model | None
    """A generator from a latent vector to images in `value_range`; its latent vector is then optimized. Source: Nguyen
    et al. 2016, https://arxiv.org/abs/1605.09304."""
    score: Score
    """"logits", or "probability", which saturates."""


@dataclasses.dataclass(frozen=True)
class Defaults:
    """The defaults of all options, unless `shares` gives another; in the order that `help()` shows."""

    layer: Layer | None = None
    call_index: int | None = None
    tokens: tuple[int, int] | None = None
    resize: bool = True
    return_layer: bool = False
    parameterization: Literal["fourier", "pixels"] = "fourier"
    size: int | tuple[int, int] | None = None
    steps: int = 256
    learning_rate: float | None = 0.05
    optimizer: Literal["adam", "normalized", "gradient", "l-bfgs"] | None = "adam"
    l2: float | None = None
    l1: float = 0.0
    total_variation: float | None = None
    diversity: float = 0.0
    diversity_layer: Layer | None = None
    frequency_power: float | None = None
    coarse: float | None = None
    anneal: bool | None = None
    decay: float = 0.0
    blur: float = 0.0
    blur_every: int = 4
    clip_pixels: float = 0.0
    clip_gradients: float = 0.0
    jitter: int | None = None
    scale: float | None = None
    rotate: float | None = None
    pad: int | None = None
    second_jitter: int | None = None
    start: Any = None
    generator: keras.Model | None = None
    norm: Literal["inf", "l2"] = "inf"
    targeted: bool = False
    value_range: tuple[float, float] = (0, 255)
    preprocess: Preprocess = None
    score: Score = "logits"
    batch_size: int = 64
    wrt: str | int | None = None
    data_format: Literal["channels_last", "channels_first"] | None = None
    seed: int = 0
    return_scores: bool = False
    compile: Compile = "auto"
    verbose: Verbose = "auto"


def shares(kind: type, **own: Any) -> Callable[[Function], Function]:
    """Give a function the options of a `TypedDict`, checked and with their defaults.

    Args:
        kind: The `TypedDict` that the function's `**options` unpack.
        own: Defaults of this function that differ from `Defaults`.

    Returns:
        A decorator.
    """

    def decorate(function: Function) -> Function:
        method, defaults = function.__name__, {**defaults_of(kind), **own}

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            return function(*args, **_complete(method, given, defaults, known))

        call.__signature__ = _filled(function, kind, defaults)
        known = {
            name for name, one in call.__signature__.parameters.items() if one.kind != one.VAR_POSITIONAL
        }
        return call

    return decorate


def defaults_of(kind: type) -> dict[str, Any]:
    """The default of each option of a `TypedDict`."""
    return {name: getattr(Defaults, name) for name in _names(kind)}


def check(method: str, name: str, value: Any) -> None:
    """Check the value of an option, which is the same for all functions.

    Raises:
        ValueError: when the value is not allowed; the message names the function, the option and what to write instead.
            Options that depend on the model (`wrt`, `layer`) are checked where the model is known.
    """
    if name not in _CHECKS:
        return
    fits, expected, advice = _CHECKS[name]
    if not fits(value):
        raise UsageError(f"{method} expects {name} to be {expected}. Received {name}={value!r}. {advice}")


def check_flag(method: str, name: str, value: Any, advice: str = "Leave it out for the default.") -> None:
    """Check that an argument is True or False.

    Raises:
        ValueError: when it is neither; the message names the function and the argument.
    """
    if not _is_flag(value):
        raise UsageError(f"{method} expects {name} to be True or False. Received {name}={value!r}. {advice}")


def _complete(method, given, defaults, known):
    """All options after a check, given ones or defaults, and the function's own arguments unchanged."""
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"{method} expects only its own options. Received an unexpected keyword argument {name!r}. "
                + (f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(sorted(known))}.")
            )
        if name in defaults:
            if name == "seed":
                check_seed(method, value)
            check(method, name, value)
    return {**defaults, **given}


def _names(kind):
    """Names of a `TypedDict`'s options, in the order of `Defaults`."""
    return [field.name for field in dataclasses.fields(Defaults) if field.name in kind.__annotations__]


def _filled(function, kind, defaults):
    """The function's signature with `**options` written out."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults[name],
            annotation=kind.__annotations__[name],
        )
        for name in _names(kind)
    ]
    return signature.replace(parameters=own + shared)


def _is_flag(value):
    return isinstance(value, (bool, np.bool_)) or (is_whole(value) and value in (0, 1))


# For each option: a function that tells whether a value fits, the expected values, and what to do instead.
_CHECKS = {
    "batch_size": (
        lambda value: is_whole(value) and value >= 1,
        "a whole number of evaluations, at least 1",
        f"It limits the memory; {Defaults.batch_size} suits most machines.",
    ),
    "compile": (
        lambda value: _is_flag(value) or is_one_of(value, ("auto",)),
        "'auto', True or False",
        "Leave it out for 'auto'.",
    ),
    "score": (
        lambda value: is_one_of(value, ("logits", "probability")),
        "'logits' or 'probability'",
        "'logits' explains the value before the softmax, 'probability' the model's output as it is.",
    ),
    "verbose": (
        lambda value: _is_flag(value) or is_one_of(value, ("auto",)) or (is_whole(value) and value == 2),
        "'auto', 0, 1 or 2",
        "0 shows no progress bar.",
    ),
    "data_format": (
        lambda value: value is None or is_one_of(value, ("channels_last", "channels_first")),
        "None, 'channels_last' or 'channels_first'",
        "Leave it out to find the layout from the images and the model.",
    ),
    "return_layer": (_is_flag, "True or False", "True returns (maps, name)."),
    "resize": (_is_flag, "True or False", "False keeps the layer's own grid."),
    "targeted": (_is_flag, "True or False", "True makes the given classes more likely."),
    "return_scores": (_is_flag, "True or False", "True also returns the objective of every step."),
    "preprocess": (
        lambda value: value is None or callable(value),
        "a function of images, or None",
        "Write for example preprocess=keras.applications.vgg16.preprocess_input.",
    ),
}
