"""From a path to images and labels: a folder, a table of labels with a folder, or a packed file."""

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from recipes.common.nearest import did_you_mean, nearest, nearest_path
from recipes.data import headers, named, packed
from recipes.data.decode_on_demand import streamed
from recipes.data.decoded_cache import keep_in_file, keep_in_memory, keep_nothing, place_of_cache, valid_cache
from recipes.data.image_set import ImageSet, InMemory, Reading
from recipes.data.in_record import container_of
from recipes.data.jpeg_plans import DCT_SCALES
from recipes.data.layouts import list_images
from recipes.data.listing import Listing
from recipes.data.look_at_files import common_size, look_at_all, refuse_bad
from recipes.data.masks import read_masks
from recipes.data.read import Reader
from recipes.data.records import list_records, record_files
from recipes.data.split_names import NAMES_OF_PARTS


def images_on_disk(given: Any, labels: Any, class_names: Any, reading: Reading, cache: Any) -> ImageSet:
    """A folder, labels with a folder, or a packed file; the arguments are those of `load`.

    Raises:
        ValueError, TypeError: when it is none of these, or holds no images that decode.
    """
    if given is None and labels is None:
        raise TypeError(
            "data.load expects the name of a data set, a folder, a packed file, (csv, folder) or a dataframe. Received "
            "None. Give for example data.load('my_photos', image_size=64)."
        )
    records = record_files(given) if isinstance(given, (str, os.PathLike, tuple, list)) else None
    if records is not None:
        listing = list_records(*records, labels, class_names, reading.skip)
        return _from_listing(listing, str(given), reading, cache)
    if isinstance(given, (tuple, list)) and len(given) == 2 and labels is None:
        labels, given = given
    elif hasattr(given, "columns") and hasattr(given, "iloc"):
        labels, given = given, None
    elif isinstance(given, (str, os.PathLike)):
        path = os.path.expanduser(os.fspath(given))
        if os.path.isfile(path) and packed.is_packed(path):
            return _from_packed(path, labels, class_names, reading)
        if os.path.isfile(path) and path.lower().endswith((".csv", ".tsv")) and labels is None:
            labels, given = path, os.path.dirname(os.path.abspath(path))
    path = None if given is None else _folder(given)
    listing = list_images(path, labels=labels, class_names=class_names, skip=reading.skip)
    if path is not None and labels is None and class_names is None:
        listing.notes += _notes_on_neighbors(path, listing)
    return _from_listing(listing, path or "a data frame", reading, cache)


def _notes_on_neighbors(path, listing):
    """A warning when val/ is loaded by itself, where its classes would get other numbers than in train/."""
    above, name = os.path.split(os.path.abspath(path))
    part = named_part(name)
    if part is None or listing.parts is not None or listing.masks is not None:
        return []
    notes = []
    for neighbor in sorted(os.listdir(above)):
        folder = os.path.join(above, neighbor)
        if neighbor == name or named_part(neighbor) in (None, part) or not os.path.isdir(folder):
            continue
        theirs = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        if theirs and theirs != listing.class_names:
            notes.append(
                f"{name}/ numbers only its own {len(listing.class_names)} classes, and {neighbor}/ beside it has "
                f"{len(theirs)}: the same number can mean another class there. Load both with data.load({above!r}), "
                "or give both the same class_names=."
            )
    return notes


def named_part(name: str) -> str | None:
    """ "train", "validation" or "test" for the name of a folder that stands for such a part, else None."""
    return NAMES_OF_PARTS.get(name.lower())


def _from_listing(listing: Listing, source, reading, cache):
    if not len(listing.files):
        raise ValueError(
            f"data.load expects images in {source!r}. Received none. Check that the folder was unpacked whole."
        )
    looked = look_at_all(listing, reading)
    size = reading.size or common_size(source, looked)
    keep = ~looked.bad
    gray = bool(looked.gray[keep & looked.seen].all()) and bool(keep.any())
    reader = Reader(
        reading.size,
        reading.fit,
        reading.background,
        1 if gray else 3,
        tuple(np.unique(looked.kinds[keep]).tolist()) or (headers.PNG,),
        bool((looked.orientations[keep] > 1).any()),
        looked.plan(reading),
        strict=True,
        expected=(*size, 1 if gray else 3),
        in_records=container_of(looked.names(0)) != looked.names(0),
    )
    shape = reader.expected
    where, path = place_of_cache(None if reading.random_crops else cache, listing, shape, reading)
    if where == "file":
        known = valid_cache(path, listing, reading, shape)
        if known is not None:
            listing = listing.chosen(np.array(known.facts["rows"], np.int64))
            return _finished(
                listing, source, shape, InMemory(known.tensor()), reading, path, known.facts["skipped"]
            )
    store = {
        "memory": keep_in_memory,
        "file": functools.partial(keep_in_file, path=path),
        None: keep_nothing,
    }[where]
    if where is None and not reading.check:
        refuse_bad(looked.reasons, reading)
        good, tensor = np.flatnonzero(keep), None
    else:
        good, tensor = store(reader, listing, looked, reading)
    skipped = listing.skipped + [f"{file}: {why}" for file, why in looked.reasons]
    if not len(good):
        raise ValueError(f"data.load expects images in {source!r} that decode. Received none. {skipped[0]}")
    rest = listing.chosen(good)
    if tensor is None:
        read = streamed(rest, looked.facts(good), reader)
    else:
        read = InMemory(tensor)
    images = _finished(rest, source, shape, read, reading, path if where == "file" else where, skipped)
    if reading.random_crops and images.task != "segmentation":
        of_parts = dataclasses.replace(
            reader, fit="stretch", scales=tuple(range(len(DCT_SCALES))), areas=reading.random_crops
        )
        images.read_crops = streamed(rest, looked.facts(good), of_parts)
    return images


def _finished(listing, source, shape, read, reading, cache, skipped):
    task = "multi_label" if listing.labels.ndim == 2 else "classification"
    labels, names = listing.labels, listing.class_names
    if listing.masks is not None:
        task = "segmentation"
        labels, names = read_masks(listing, shape[:2], reading.fit if reading.size else "stretch", names)
    elif task == "classification":
        empty = [
            name for name, n in zip(names, np.bincount(labels, minlength=len(names)), strict=True) if not n
        ]
        if empty and skipped:
            listing.notes.append(f"No image of {', '.join(map(repr, empty))} decodes.")
    return ImageSet(
        read,
        labels,
        names,
        shape,
        source,
        "symbols" if shape[2] == 1 and task != "segmentation" else "photos",
        task,
        listing.parts,
        cache,
        notes=listing.notes,
        skipped=skipped,
        identity=functools.partial(_identity_of_files, listing.root, listing.files, shape, reading),
        files=functools.partial(_paths, listing.root, listing.files),
    )


def _paths(root, files, rows):
    return tuple(os.path.join(root, os.fsdecode(file)) for file in files[rows])


def _identity_of_files(root, files, shape, reading, rows):
    how = {"fit": reading.fit, "background": list(reading.background)} if reading.size is not None else {}
    names = packed.names_and_sizes(root, files, rows)
    return {"kind": "files", "count": len(rows), "image_shape": list(shape), **how, "names_and_sizes": names}


def _from_packed(path, labels, class_names, reading):
    if labels is not None or class_names is not None:
        raise ValueError(
            f"data.load expects labels and class_names with folders only. Received them with the packed file {path!r}, "
            "which has labels of its own. Give them to data.pack."
        )
    known = packed.open_packed(path)
    facts, shape = known.facts, known.shape[1:]
    if facts["masks"]:
        raise ValueError(
            f"data.load expects a packed file of images with classes. Received {path!r}, of images with masks, which "
            f"it does not hold. Load the folder, with cache={path!r}."
        )
    if reading.size not in (None, tuple(shape[:2])):
        raise ValueError(
            f"data.load expects image_size={tuple(shape[:2])}, as the images of {path!r} were packed. "
            f"Received {reading.size}. Leave it out, or pack them again."
        )
    array = packed.numbers_of_text(facts["labels"])
    return ImageSet(
        InMemory(known.tensor()),
        array,
        facts["class_names"],
        shape,
        os.fspath(path),
        "symbols" if shape[2] == 1 else "photos",
        "multi_label" if array.ndim == 2 else "classification",
        None if facts["parts"] is None else packed.numbers_of_text(facts["parts"]),
        os.fspath(path),
        notes=list(facts["notes"]),
        skipped=list(facts["skipped"]),
    )


def _near(path):
    """The folder or named set that is most like a path, or None; a photo or a table is none."""
    readable = lambda one: os.path.isdir(one) or packed.is_packed(one)  # noqa: E731
    return nearest(path, named.SETS) or nearest_path(path, readable)


def _folder(name_or_folder):
    names = ", ".join(repr(name) for name in named.SETS)
    if not isinstance(name_or_folder, str | os.PathLike):
        raise TypeError(
            f"data.load expects the name of a data set or the path of a folder. Received {name_or_folder!r}. "
            f"Names are {names}."
        )
    path = os.path.expanduser(os.fspath(name_or_folder))
    if not os.path.isdir(path):
        raise ValueError(
            f"data.load expects the name of a data set ({names}) or the path of a folder. "
            f"Received {os.fspath(name_or_folder)!r}, which is neither. "
            f"Correct the name, or the path; relative paths begin at {os.getcwd()}.{did_you_mean(_near(path))}"
        )
    return path
