"""What the parts of a batch are: which are images and labels, what belongs to pixels, and what has no role."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

import tensorflow as tf

#: What an entry of a batch is; see `Pipeline`.
Role: TypeAlias = Literal[
    "images",
    "labels",
    "sample_weight",
    "masks",
    "heatmaps",
    "pixel_weights",
    "boxes",
    "box_labels",
    "keypoints",
    "unchanged",
]
ROLES: tuple[str, ...] = get_args(Role)
OF_PIXELS = ("masks", "heatmaps", "pixel_weights")
OF_PLACES = ("boxes", "box_labels", "keypoints")

_POINT_NAMES = (
    *("box", "keypoint", "key_point", "kpt", "landmark", "joint", "polygon", "contour", "corner", "vertices"),
    *("centroid", "coord", "pupil", "fixation"),
)
_PIXEL_NAMES = ("mask", "segment", "depth", "heatmap", "heat_map", "disparity", "optical_flow", "saliency")


def check_roles(roles: Any) -> dict[str, str]:
    """`{key: role}` with both as they are used: keys as text, roles one of `ROLES`.

    Raises:
        ValueError: for what is no such mapping.
    """
    if roles is None:
        return {}
    if not isinstance(roles, Mapping):
        raise ValueError(
            f"augment.Pipeline expects roles to be a dictionary {{name: role}}. Received {roles!r}. "
            "For example: roles={'segmentation': 'masks', 'objects/bbox': 'boxes'}."
        )
    checked = {}
    for key, role in roles.items():
        found = next((one for one in ROLES if role in (one, one.removesuffix("s"), f"{one}s")), None)
        if not isinstance(role, str) or found is None:
            raise ValueError(
                f"augment.Pipeline expects each role to be one of {', '.join(map(repr, ROLES))}. Received {role!r} "
                f"for {key!r}. For example: roles={{{key!r}: 'masks'}}."
            )
        checked[str(key)] = found
    return checked


def walk(element: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """`(path, part)` for each part of a nested structure; keys and positions in the path are joined by "/"."""
    if isinstance(element, Mapping):
        entries = list(element.items())
    elif isinstance(element, (tuple, list)):
        entries = list(enumerate(element))
    else:
        yield path, element
        return
    for key, value in entries:
        yield from walk(value, f"{path}/{key}" if path else str(key))


def replace(element: Any, new: Mapping[str, Any], path: str = "") -> Any:
    """The same structure with the parts at some paths exchanged."""
    if isinstance(element, Mapping):
        return {
            key: replace(value, new, f"{path}/{key}" if path else str(key)) for key, value in element.items()
        }
    if isinstance(element, (tuple, list)):
        parts = [
            replace(value, new, f"{path}/{place}" if path else str(place))
            for place, value in enumerate(element)
        ]
        return type(element)(*parts) if hasattr(element, "_fields") else type(element)(parts)
    return new.get(path, element)


def role_of(path: str, roles: Mapping[str, str]) -> str | None:
    """The role of the part at a path: a key names it by its whole path, the end of it, or a structure it is in."""
    inside = f"/{path}/"
    matches = [key for key in roles if f"/{key.strip('/')}/" in inside]
    return roles[max(matches, key=len)] if matches else None


def refuse_flat_masks(labels: Any, height: int, width: int) -> None:
    """Raise when whole-numbered labels `(batch, n)` have one number for each pixel."""
    if getattr(labels.shape, "rank", None) == 2 and _is_flat(labels, height * width):
        refuse_unmoved("labels", labels, height, width)


def refuse_unmoved(path: str, part: Any, height: int, width: int) -> None:
    """Raise when a part without a role belongs to pixels, as far as its shape or name can tell.

    Raises:
        ValueError: with the role to declare.
    """
    shape = getattr(part, "shape", None)
    rank = getattr(shape, "rank", None) if shape is not None else None
    ragged = isinstance(part, (tf.RaggedTensor, tf.RaggedTensorSpec))
    if rank is None and not ragged:
        reason, role = f"a part of unknown shape ({type(part).__name__})", "unchanged"
    else:
        sides = tuple(shape)[1:]
        name = path.lower()
        of_points = any(word in name for word in _POINT_NAMES)
        of_pixels = any(word in name for word in _PIXEL_NAMES)
        if rank <= 1 or (rank == 2 and not of_points and not _is_flat(part, height * width)):
            return
        map_like = rank == 2 or rank >= 4 or sides[-1] not in (2, 3, 4)
        if of_pixels or (map_like and not of_points):
            role = "heatmaps" if part.dtype.is_floating else "masks"
            role = "pixel_weights" if path == "2" or "weight" in name else role
        elif sides[-1] == 4 or "box" in name:
            role = "boxes"
        else:
            role = "keypoints"
        reason = f"{path!r} of shape {tuple(shape)}"
    raise ValueError(
        "augment.Pipeline expects a role for everything that belongs to pixels: it must move with them, and a class "
        f"label does not. Received {reason}. Write Pipeline(..., roles={{{path!r}: {role!r}}}), where the role is one "
        f"of {', '.join(map(repr, ROLES[3:]))}, or call pipeline(images, labels, {role}=...); a flat mask is reshaped "
        "to (batch, height, width) first."
    )


def _is_flat(part, pixels):
    """Whether a part of shape (batch, n) can be a whole mask in a row: whole numbers, one or more for each pixel."""
    return _is_row_of_pixels(part.shape[-1], pixels) and not part.dtype.is_floating


def _is_row_of_pixels(length, pixels):
    """Whether so many numbers are one, or in images of some size several, for each pixel."""
    return length is not None and length % pixels == 0 and pixels > (4 if length == pixels else 63)


def may_be_boxes(part: Any) -> bool:
    """Whether a part of shape (batch, 4) has to be told from boxes by its values."""
    return tf.is_tensor(part) and part.shape.rank == 2 and part.shape[-1] == 4 and part.dtype != tf.string


def may_be_flat_map(part: Any, pixels: int) -> bool:
    """Whether a float part of shape (batch, n) has to be told from a map in a row by its values."""
    return (
        tf.is_tensor(part)
        and part.shape.rank == 2
        and _is_row_of_pixels(part.shape[-1], pixels)
        and part.dtype.is_floating
    )
