"""The roles of the parts of a batch: images, labels, annotations of pixels, and parts without a role."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

import tensorflow as tf

#: The role of an entry of a batch; see `Pipeline`.
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
    """Check `{key: role}` and return it with keys as strings and roles from `ROLES`.

    A role may also be given in the singular. None gives an empty dictionary.

    Raises:
        ValueError: when `roles` is not a mapping or holds an unknown role.
    """
    if roles is None:
        return {}
    if not isinstance(roles, Mapping):
        raise ValueError(
            f"augment.Pipeline expects roles to be a dictionary {{name: role}}. Received {roles!r}. "
            "Write for example roles={'segmentation': 'masks', 'objects/bbox': 'boxes'}."
        )
    checked = {}
    for key, role in roles.items():
        found = next((one for one in ROLES if role in (one, one.removesuffix("s"), f"{one}s")), None)
        if not isinstance(role, str) or found is None:
            raise ValueError(
                f"augment.Pipeline expects each role to be one of {', '.join(map(repr, ROLES))}. Received {role!r} "
                f"for {key!r}. Write for example roles={{{key!r}: 'masks'}}."
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
    """The same structure with the parts at the paths of `new` replaced."""
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
    """The role of the part at a path, or None.

    A key of `roles` may be the whole path, a part of it such as its end, or a structure that contains the part. The
    longest matching key decides.
    """
    inside = f"/{path}/"
    matches = [key for key in roles if f"/{key.strip('/')}/" in inside]
    return roles[max(matches, key=len)] if matches else None


def refuse_flat_masks(labels: Any, height: int, width: int) -> None:
    """Raise `ValueError` when integer labels `(batch, n)` have one number or more per pixel, like a flattened mask."""
    if getattr(labels.shape, "rank", None) == 2 and _is_flat(labels, height * width):
        refuse_unmoved("labels", labels, height, width)


def refuse_unmoved(path: str, part: Any, height: int, width: int) -> None:
    """Refuse a part without a role that seems to belong to pixels, by its shape or name.

    Raises:
        ValueError: when it does; the message tells the role to declare.
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
        "augment.Pipeline expects a role for everything that belongs to pixels, because it must move with the pixels. "
        f"Received {reason}. Write Pipeline(..., roles={{{path!r}: {role!r}}}), where the role is one of "
        f"{', '.join(map(repr, ROLES[3:]))}, or call pipeline(images, labels, {role}=...); reshape a flat mask to "
        "(batch, height, width) first."
    )


def _is_flat(part, pixels):
    """Whether a part of shape (batch, n) can be a flattened mask: integers, one or more per pixel."""
    return _is_row_of_pixels(part.shape[-1], pixels) and not part.dtype.is_floating


def _is_row_of_pixels(length, pixels):
    """Whether this many numbers can be one per pixel, or several per pixel if the image is not tiny."""
    return length is not None and length % pixels == 0 and pixels > (4 if length == pixels else 63)


def may_be_boxes(part: Any) -> bool:
    """Whether a part has the shape (batch, 4), so that only its values tell whether it holds boxes."""
    return tf.is_tensor(part) and part.shape.rank == 2 and part.shape[-1] == 4 and part.dtype != tf.string


def may_be_flat_map(part: Any, pixels: int) -> bool:
    """Whether only the values of a float part (batch, n) tell whether it is a flattened map of the pixels."""
    return (
        tf.is_tensor(part)
        and part.shape.rank == 2
        and _is_row_of_pixels(part.shape[-1], pixels)
        and part.dtype.is_floating
    )
