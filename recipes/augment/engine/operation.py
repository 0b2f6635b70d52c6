"""The base of all augmentations: a declaration with checks, a stage, and a number of random draws per image."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf
from typing_extensions import dataclass_transform

# Stages run in this order; going back to an earlier one costs a further pass over the images.
STAGES = {"geometry": 0, "color": 1, "erase": 1, "filter": 2, "mix": 3}
OPERATIONS: dict[str, type] = {}

#: The color outside the image or in a hole: "black", "mean", "edge", "reflect", a number, or one number per channel.
Fill: TypeAlias = str | float | Sequence[float]
#: The random numbers of one operation by name, each of shape (batch,).
Drawn: TypeAlias = Mapping[str, tf.Tensor]

_Class = TypeVar("_Class", bound=type)


@dataclass_transform()
def operation(cls: _Class) -> _Class:
    """Make a subclass of `Operation` a dataclass of its arguments; its `repr` is the call that creates it."""
    return dataclasses.dataclass(repr=False, eq=True)(cls)


@dataclasses.dataclass(frozen=True)
class Frame:
    """Static facts about the images at one operation, known before any pixel is read.

    Attributes:
        height, width, channels: Size of the images, in pixels and channels.
        low, high: Smallest and largest value of each channel, float32 of shape (channels,).
        mean: Mean of each channel over the data set, from a `Normalize` in the pipeline; None without one.
        normalized: True after `Normalize`.
    """

    height: int
    width: int
    channels: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray | None = None
    normalized: bool = False

    @property
    def span(self) -> np.ndarray:
        return self.high - self.low


class Operation:
    """Base of all augmentations.

    A subclass is a dataclass of its constructor's arguments. It declares its `stage` and the names of the uniform
    [0, 1) and standard normal numbers that each image needs. The pipeline draws them all at once and passes them by
    name, each of shape `(batch,)`. AutoGraph does not convert the methods, so choose between tensors with `tf.where`,
    not with `if`.
    """

    stage: ClassVar[str]
    draws: ClassVar[tuple[str, ...]] = ()
    normal_draws: ClassVar[tuple[str, ...]] = ()
    pixel_noise: ClassVar[bool] = (
        False  # True: a key per image is drawn too, for separate noise at every pixel and channel
    )
    gated: ClassVar[bool] = True  # False: the operation uses `probability` in its own way
    leaves_range: ClassVar[bool] = False
    needs_mean: ClassVar[bool] = False
    moves: ClassVar[bool] = False  # True: pixels move, although the stage is not geometry; has `moved_by`
    plain_is_slow: ClassVar[bool] = False  # True: without XLA, dozens of small kernels run for each image
    views: ClassVar[int] = 1  # the batch becomes this many times as long
    until_epoch: ClassVar[Any] = None  # number of the first epoch without this operation
    fill: ClassVar[Any] = None
    probability: ClassVar[Any] = 1.0
    # A group has `operations`, its members. If they do not all act, `chosen(drawn, index)` tells on which images
    # member `index` acts: bool of shape (batch,).
    chosen: ClassVar[Callable[..., tf.Tensor] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        OPERATIONS[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (list, np.ndarray, np.generic)) and field.name != "operations":
                setattr(self, field.name, _as_tuple(value))
        if not isinstance(self.probability, (int, float)) or not 0 <= self.probability <= 1:
            raise ValueError(
                f"augment.{self.name} expects a probability in [0, 1]. Received {self.probability!r}. "
                f"Write {self.name}(..., probability=0.5) to apply it to every second image."
            )

    @property
    def name(self) -> str:
        return type(self).__name__

    def check(self, frame: Frame) -> None:
        """Raise `ValueError` when this operation cannot augment images of this `Frame`."""

    def after(self, frame: Frame) -> Frame:
        """The `Frame` of the images after this operation."""
        return frame

    def get_config(self) -> dict[str, Any]:
        config = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "operations":
                value = [to_config(member) for member in value]
            elif hasattr(value, "get_config"):
                value = to_config(value)
            config[field.name] = value
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Operation":
        return cls(**{name: from_config(value) for name, value in config.items()})

    def __repr__(self) -> str:
        return call_text(self)


def leaves(op: Operation) -> list[Operation]:
    """The operations inside a group, in the order of the stages; the operation itself otherwise."""
    members = getattr(op, "operations", None)
    if members is None:
        return [op]
    return sorted((leaf for member in members for leaf in leaves(member)), key=stage_order)


def stage_order(op: Operation) -> int:
    """The rank of an operation in its group: colors come before erasing, so that contrast measures the whole image."""
    return list(STAGES).index(op.stage)


def to_config(thing: Any) -> dict[str, Any]:
    """Convert an operation to plain values, which `from_config` reads.

    Args:
        thing: An operation, or any object with `get_config`.

    Returns:
        `{"class_name": str, "config": dict}`; `config` holds the arguments of the constructor.
    """
    return {"class_name": type(thing).__name__, "config": thing.get_config()}


def from_config(value: Any) -> Any:
    """Rebuild the objects that `to_config` converted, also inside lists; other values are returned unchanged.

    Raises:
        ValueError: when the class name of an operation is not known.
    """
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [from_config(one) for one in value]
    if isinstance(value, dict) and set(value) == {"class_name", "config"}:
        if value["class_name"] not in OPERATIONS:
            raise ValueError(
                f"augment expects the class name of an operation. Received {value['class_name']!r}. "
                "Import the module that defines it before loading the pipeline."
            )
        return OPERATIONS[value["class_name"]].from_config(value["config"])
    return value


def call_text(thing: Any) -> str:
    """The call that creates this dataclass, as text, without arguments that have their default value."""
    words, by_name = [], False
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        default = None if field.default is dataclasses.MISSING else field.default
        if field.default is not dataclasses.MISSING and _same(value, default):
            by_name = True
            continue
        named = by_name or field.kw_only
        words.append(f"{field.name}={value!r}" if named else repr(value))
    return f"{type(thing).__name__}({', '.join(words)})"


def _same(value, default):
    return type(value) is type(default) and value == default or value is default


def _as_tuple(value):
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return tuple(_as_tuple(one) for one in value) if isinstance(value, (list, tuple)) else value


def resolve_fill(fill: Fill, frame: Frame, image_mean: Callable[[], tf.Tensor] | None = None) -> Any:
    """The color that a fill means, of shape `(1 or batch, 1, 1, channels)`; a numpy array if no image is needed.

    "black" is the low end of the value range. "mean" is the mean of the data set when the pipeline knows it, otherwise
    the mean of each image. A number, or one number per channel, is a pixel value in the range at this operation.
    """
    if isinstance(fill, str) and fill == "mean" and frame.mean is None:
        return image_mean()[:, None, None, :]
    if isinstance(fill, str):
        color = frame.mean if fill == "mean" else frame.low
    else:
        color = np.broadcast_to(np.asarray(fill, "float32"), (frame.channels,))
    return np.float32(color).reshape(1, 1, 1, frame.channels)


def paint_over(images: tf.Tensor, share: tf.Tensor, fill: Any) -> tf.Tensor:
    """`fill` where `share` is 1, `images` where it is 0; with float masks, which are faster in compiled code."""
    kept = images * (1 - share)
    if isinstance(fill, np.ndarray) and not fill.any():
        return kept
    return kept + fill * share


def check_fill(op: Operation, frame: Frame, words: Sequence[str]) -> None:
    """Raise `ValueError` when a fill is neither one of `words` nor a color inside the value range."""
    fill = op.fill
    if isinstance(fill, str):
        if fill not in words:
            raise ValueError(
                f"augment.{op.name} expects fill to be one of {', '.join(map(repr, words))}, a number, or one "
                f"number per channel. Received {fill!r}. Write for example {op.name}(..., fill='black')."
            )
        return
    color = np.asarray(fill, "float32")
    if color.shape not in ((), (frame.channels,)):
        raise ValueError(
            f"augment.{op.name} expects fill to be a number or one number for each of {frame.channels} "
            f"channels. Received {fill!r}. Write for example fill='mean'."
        )
    if np.any(color < frame.low - 1e-6) or np.any(color > frame.high + 1e-6):
        raise ValueError(
            f"augment.{op.name} expects fill inside the range of its pixels, {frame.low.min():g} to "
            f"{frame.high.max():g}. Received {fill!r}. Write fill='black' or fill='mean', or a value in that range."
        )
