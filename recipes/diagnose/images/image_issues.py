"""image_issues: find images that are dark, bright, flat, blurred or cut off, and borders that tell the class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recipes.common.datasets import comes_in_new_order, files_in_order, pairs_of
from recipes.common.files import csv_text
from recipes.diagnose.images.border_probe import BorderProbe, border_features, middle_features
from recipes.diagnose.images.file_metadata import metadata_features
from recipes.diagnose.images.stream import gray_levels, image_batches

_DARK, _BRIGHT = 45, 235  # gray levels: 99 % of the pixels of a dark image are below, of a bright one above
_FLAT, _LITTLE = 6, 40  # gray levels between the 1st and the 99th percentile: one color, and little contrast
_SHARP = 0.05  # least standard deviation of the Laplacian of a sharp photo, divided by that of the image
_SMALLEST_FOR_BLUR = 64  # pixels per side
_CUT = 0.2  # least share of the rows that repeat the last row in an image that was cut off
_OBLONG = 3.0  # largest ratio of the sides
_MOST_PROBED = 3000

#: Kinds of issues of single images, and their descriptions.
KINDS = {
    "near_constant": "one color all over",
    "dark": "nearly black",
    "bright": "nearly white",
    "low_contrast": "little contrast",
    "blurred": "blurred",
    "corrupt_lower_half": "the lower part is one row repeated, as of a file that was cut off",
    "odd_aspect_ratio": "one side is more than three times the other, or the shape is unlike the others",
    "not_finite": "NaN or infinity",
}


@dataclass(frozen=True)
class ImageIssue:
    """One image with a problem.

    Attributes:
        number: Position of the image in the order in which the data set is read, from 0.
        kind: One of the keys of `image_issues.KINDS`.
        value: The measured value: gray levels in [0, 255], a ratio, or a share in [0, 1].
        label: Class number, or None.
        file: Path of the image, where it is known; else None.
    """

    number: int
    kind: str
    value: float
    label: int | None = None
    file: str | None = None


@dataclass(frozen=True)
class ImageIssues:
    """What `image_issues` found.

    Attributes:
        issues: All issues of single images, those of the rarest kind first.
        remarks: Kind -> sentence about the whole data set, for "value_range", "channel_order", "class_imbalance",
            "spurious_border" and "spurious_metadata", or about the check itself, for "order" and "labels".
        count: Number of images that were checked.
        border_accuracy: Accuracy of the classifiers that see only the borders, in [0, 1]; None where they were not
            trained.
        border_chance: Accuracy of always predicting the most frequent class, in [0, 1], or None.
        counts: Kind -> number of images with that issue.
    """

    issues: list[ImageIssue]
    remarks: dict[str, str]
    count: int
    border_accuracy: float | None = None
    border_chance: float | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, kind: str) -> list[int]:
        """Numbers of the images with this kind of issue."""
        return [issue.number for issue in self.issues if issue.kind == kind]

    def table(self, count: int = 10) -> str:
        """One line per kind of issue with the first `count` images (files or numbers), then the remarks."""
        number = len({issue.number for issue in self.issues})
        lines = [f"{self.count} images: {number or 'none'} with something wrong"]
        for kind, number in sorted(self.counts.items(), key=lambda item: item[1]):
            first = [one for one in self.issues if one.kind == kind][:count]
            shown = ", ".join(one.file or str(one.number) for one in first)
            shown += ", ..." if number > count else ""
            lines.append(f"  {kind}: {number} ({KINDS[kind]}): {shown}")
        lines += [f"  {kind}: {words}" for kind, words in self.remarks.items()]
        return "\n".join(lines)

    def to_csv(self, path: Any = None) -> str:
        """CSV text with one row per issue, also written to the file `path` if given.

        The columns are number, kind, value, label, and file where the files are known.
        """
        known = any(one.file for one in self.issues)
        rows = [
            [one.number, one.kind, f"{one.value:.6g}", one.label, *[one.file] * known] for one in self.issues
        ]
        return csv_text([["number", "kind", "value", "label", *["file"] * known], *rows], path)

    def __str__(self) -> str:
        return self.table()


def image_issues(data: Any, *, files: Sequence[str] | None = None) -> ImageIssues:
    """Find faulty images, and faults of the data set as a whole.

    The issues of single images are near_constant, dark, bright, low_contrast, blurred (only from 64 pixels per side),
    corrupt_lower_half, odd_aspect_ratio and not_finite. Those of the data set are a wrong value range, channels in the
    order blue, green, red, classes that are over ten times as frequent as others, and borders that tell the class.

    For the borders, two classifiers see only the outer 15 % of the images. They are trained on three quarters of the
    images and tested on the others. A network would learn a frame, a logo or a time stamp that occurs with one class
    instead of the class. But clothes that reach the edge, or the sky around ships, tell the class in the same way, so
    look at the images. There is no remark where the middle of the images tells the class as well as the border, as in
    most photos.

    Args:
        data: `tf.data.Dataset` of images or `(image, label)`, batched or not, or arrays `x` or `(x, y)`. Images are
            `(height, width)` or `(height, width, channels)`, of any size and value range. The data is read once, batch
            by batch.
        files: File names of the images in the same order, such as `info.files["train"]` of `data.load`. With them, it
            is also tested whether size, format, date and camera of the files tell the class. None skips that test, and
            names the images of a data set of `data.load` by their files all the same.

    Returns:
        `ImageIssues`.

    Raises:
        ValueError: for an empty or endless data set, arrays that are not images, or a wrong number of files.
        TypeError: for data of another kind.

    Example:
        >>> print(image_issues((x, y)))
    """
    seen, shapes, labels, probe, count = [], [], [], BorderProbe(_MOST_PROBED), 0
    ranges, warm = _Range(), []
    for images, numbers in image_batches(data, "diagnose.image_issues"):
        ranges.add(images)
        pixels = ranges.in_bytes(images)
        known = [None] * len(images) if numbers is None else numbers.tolist()
        for number, (image, label) in enumerate(zip(pixels, known, strict=True), count):
            seen += [ImageIssue(number, kind, value, label) for kind, value in _of_image(image)]
        shapes += [images.shape[1:3]] * len(images)
        labels += known
        if images.shape[-1] == 3:
            warm += _warmth(pixels)
        if numbers is not None:
            probe.add(np.concatenate([border_features(pixels), middle_features(pixels)], 1), numbers)
        count += len(images)
    seen += _odd_shapes(shapes, labels)
    kinds = Counter(issue.kind for issue in seen)
    seen.sort(key=lambda issue: (kinds[issue.kind], issue.kind, issue.number))
    accuracy, chance, beats = probe.judge_border()
    told = _metadata(files, labels)
    if names := files or files_in_order(data):
        seen = [replace(one, file=names[one.number]) for one in seen]
    remarks = {
        **ranges.remark(),
        **_channel_order(warm),
        **_imbalance(labels),
        **told,
        **_of_the_look(data, labels),
    }
    if beats:
        remarks["spurious_border"] = (
            f"the outermost pixels and corners alone name the class in {accuracy:.0%} of images that the probe has not "
            f"seen, where always giving the most frequent class is right in {chance:.0%}. The {probe.place()} "
            "tells the class best, and the middle of the images tells less. A frame, a logo or a time stamp there that "
            "goes with a class will be learned in its place: crop it off. "
            "An object that reaches the edge, or a sky, is no fault."
        )
    return ImageIssues(seen, remarks, count, accuracy, chance, dict(kinds))


def _of_the_look(data, labels):
    remarks = {}
    if comes_in_new_order(data):
        remarks["order"] = (
            "the data set shuffles anew at every reading: numbers are places of this one. Give it before shuffle() to "
            "find the images by them."
        )
    parts = getattr(pairs_of(data), "element_spec", data)
    given = isinstance(parts, (tuple, list)) and len(parts) > 1
    if given and not any(label is not None for label in labels):
        remarks["labels"] = (
            "the labels are no single class numbers, so that class imbalance and borders that tell the class were not "
            "looked for."
        )
    return remarks


def _metadata(files, labels):
    if files is not None and len(files) != len(labels):
        raise ValueError(
            "diagnose.image_issues expects the file of every image in files. Received "
            f'{len(files)} for {len(labels)} images. Give info.files["train"] of the same data.'
        )
    known = [(file, label) for file, label in zip(files or (), labels, strict=False) if label is not None]
    if not known:
        return {}
    step = max(1, len(known) // _MOST_PROBED)
    some, probe = known[::step], BorderProbe(_MOST_PROBED)
    probe.add(metadata_features([file for file, _ in some]), np.array([label for _, label in some]))
    accuracy, chance, beats = probe.judge()
    if not beats:
        return {}
    return {
        "spurious_metadata": "what the files say beside the pixels (sides, format, date, camera) names the "
        f"class in {accuracy:.0%} of images that the probe has not seen, where always giving the most frequent class "
        f"is right in {chance:.0%}. The classes come from different places: what differs between these will be learned "
        "too."
    }


def _of_image(pixels):
    """`(kind, value)` of each issue of one image with values in [0, 255]."""
    if not np.isfinite(pixels).all():
        return [("not_finite", float((~np.isfinite(pixels)).mean()))]
    step = max(1, min(pixels.shape[:2]) // 128)
    gray = gray_levels(pixels[None])[0]
    low, first, almost, high = np.percentile(gray[::step, ::step], [1, 5, 95, 99])
    found = []
    if high - low < _FLAT:
        return [("near_constant", float(high - low))]
    if high < _DARK:
        found.append(("dark", float(high)))
    elif low > _BRIGHT or first > _BRIGHT + 10:
        found.append(("bright", float(low)))
    elif high - low < _LITTLE:
        found.append(("low_contrast", float(almost - first)))
    cut = _repeated_rows(pixels)
    if cut >= _CUT:
        found.append(("corrupt_lower_half", cut))
    elif min(gray.shape) >= _SMALLEST_FOR_BLUR:
        edges = gray[1:-1, 1:-1] * 4 - gray[:-2, 1:-1] - gray[2:, 1:-1] - gray[1:-1, :-2] - gray[1:-1, 2:]
        sharpness = float(edges.std() / max(gray.std(), 1e-6))
        if sharpness < _SHARP:
            found.append(("blurred", sharpness))
    return found


def _repeated_rows(pixels):
    """Share of the rows at the bottom that are equal to the last row; 0 where the first row is so too."""
    rows = pixels.reshape(len(pixels), -1)
    same = np.abs(rows - rows[-1]).max(axis=1) <= 2
    if len(rows) < 8 or same[0] or same.all():
        return 0.0
    return float(np.argmin(same[::-1]) / len(rows))


def _odd_shapes(shapes, labels):
    sides = np.array(shapes, float)
    ratio = sides[:, 1] / sides[:, 0]
    if np.ptp(ratio) < 1e-9 or not len(ratio):
        return []
    odd = np.abs(np.log(ratio)) > np.log(_OBLONG)
    odd |= np.abs(np.log(ratio / np.median(ratio))) > np.log(_OBLONG)
    return [ImageIssue(int(n), "odd_aspect_ratio", float(ratio[n]), labels[n]) for n in np.flatnonzero(odd)]


def _warmth(pixels):
    """Whether each image is more red than blue; gray images are left out."""
    means = pixels[:, ::4, ::4].reshape(len(pixels), -1, 3).mean(1)
    return [bool(red > blue) for red, _, blue in means if abs(red - blue) > 4]


def _channel_order(warm):
    share = float(np.mean(warm)) if len(warm) >= 50 else 1.0
    if share > 0.3:
        return {}
    return {
        "channel_order": f"{1 - share:.0%} of the images are more blue than red; of photos most are warm. If they look "
        "wrong, the channels are blue, green, red, as OpenCV reads them: images[..., ::-1]."
    }


def _imbalance(labels):
    counts = Counter(label for label in labels if label is not None)
    if len(counts) < 2 or max(counts.values()) <= 10 * min(counts.values()):
        return {}
    most, fewest = max(counts, key=counts.get), min(counts, key=counts.get)
    return {
        "class_imbalance": f"class {most} has {counts[most]} images, class {fewest} {counts[fewest]}. Give "
        "class_weight, or balance='classes' of data.load, and judge by recall."
    }


class _Range:
    """The smallest and largest value so far, and the value range that they indicate."""

    def __init__(self):
        self.low, self.high, self.whole = np.inf, -np.inf, True
        self.small = self.large = 0  # images whose largest value is at most 1, or far above 1

    def add(self, images):
        finite = images if images.dtype.kind in "biu" else images[np.isfinite(images)]
        self.whole = self.whole and images.dtype.kind in "biu"
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        if not self.whole:
            rows = images.reshape(len(images), -1)
            top = np.nanmax(np.where(np.isfinite(rows), rows, np.nan), axis=1, initial=-np.inf)
            self.small += int(((top > 0.02) & (top <= 1.001) & (rows != np.round(rows)).any(1)).sum())
            self.large += int((top > 8).sum())

    def in_bytes(self, images):
        images = images.astype("float32")
        if self.low >= 0 and self.high <= 1.001 and not self.whole:
            return images * 255
        return (images + 1) * 127.5 if -1.001 <= self.low < 0 and self.high <= 1.001 else images

    def remark(self):
        reach = f"values reach from {self.low:.4g} to {self.high:.4g}"
        if self.low >= 0 and self.high <= 1.5 / 255 and not self.whole:
            return {"value_range": f"{reach}: they were divided by 255 twice."}
        if self.whole and self.high <= 1:
            return {"value_range": f"{reach} as whole numbers: divided by 255 without floats."}
        if min(self.small, self.large) >= max(3, 0.02 * (self.small + self.large)):
            return {
                "value_range": f"{self.small} images end at 1, {self.large} go up to {self.high:.4g}: one source was "
                "divided by 255, the other was not."
            }
        if self.high > 256:
            return {"value_range": f"{reach}: 16-bit images, or scaled up twice."}
        return {}
