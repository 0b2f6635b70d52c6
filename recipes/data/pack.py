"""pack: decode a folder of images in advance, into one file."""

import os
from typing import TYPE_CHECKING, Any, Literal

from recipes.data.load import DatasetInfo, load

if TYPE_CHECKING:
    from recipes.common.types import Path, Size


def pack(
    folder: Any,
    file: "Path",
    image_size: "Size | None" = None,
    *,
    labels: Any = None,
    class_names: "list[str] | tuple[str, ...] | None" = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    background: "str | int | tuple[int, int, int]" = "white",
    on_error: Literal["raise", "skip"] = "raise",
    verbose: int = 1,
) -> DatasetInfo:
    """Decode all images of a folder into one file, from which they are read without decoding.

    The file holds uint8 pixels, labels, class names and checksums. `data.load(file)` reads it without the folder;
    `data.load(folder, ..., cache=file)` reads it as long as the folder has not changed. It is mapped into memory,
    so a file larger than memory works. For `augment.RandomResizedCrop(224)` pack 1.15 times that, `image_size=258`.

    Args:
        folder: As for `data.load`; not a name.
        file: Path of the file to write, such as `photos.packed`. A packed file there is made anew only if something
            changed.
        image_size: As for `data.load`, like all that follow: None, a side, or `(height, width)` in pixels.
        labels: As for `data.load`.
        class_names: As for `data.load`.
        fit: As for `data.load`.
        background: As for `data.load`.
        on_error: As for `data.load`.
        verbose: As for `data.load`.

    Returns:
        A `DatasetInfo`; its `counts` are those of `data.load` with `validation=0`.

    Raises:
        ValueError: as `data.load`; for a `file` that is not the path of a file, and for images with masks.

    Example:
        >>> pack("photos", "photos.packed", image_size=258)
        >>> train, validation, info = data.load("photos.packed")
    """
    if not isinstance(file, (str, os.PathLike)) or os.path.isdir(os.path.expanduser(os.fspath(file))):
        raise ValueError(
            f"data.pack expects the path of a file to write. Received {file!r}. Type for example 'photos.packed'."
        )
    if os.fspath(file) in ("auto", "memory"):
        file = os.path.join(".", os.fspath(file))
    _, _, info = load(
        folder,
        image_size,
        0,
        labels=labels,
        class_names=class_names,
        fit=fit,
        background=background,
        on_error=on_error,
        cache=file,
        verbose=verbose,
    )
    if info.task == "segmentation":
        os.unlink(info.cache)
        raise ValueError(
            f"data.pack expects images with classes. Received {folder!r}, images with masks, which a packed file does "
            "not hold. Load the folder, with cache=file."
        )
    return info
