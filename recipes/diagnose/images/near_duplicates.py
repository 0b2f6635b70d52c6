"""near_duplicates: find copies of images, also compressed, resized, mirrored, cropped, brighter, framed or stamped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.common.datasets import comes_in_new_order, files_in_order
from recipes.common.files import csv_text
from recipes.diagnose.images.small_pictures import (
    MIRROR,
    descriptors,
    lines,
    small_pictures,
    without_border,
)
from recipes.diagnose.images.stream import gray_levels, image_batches

_ALIKE = 0.72  # least cosine similarity of the descriptors of two pictures that are compared
_MOST_CANDIDATES = 200_000
_SAME = 0.05  # largest share of the variance of a picture that its copy may leave unexplained
_NEARER = 0.35  # largest ratio of that share to the one that the most similar other picture leaves
_SAME_SMALL, _SAME_TINY = (
    0.003,
    1e-4,
)  # as _SAME, for pictures under 48 and under 16 pixels per side, which are all similar
_TINY = 16
_SMALL = 48  # pixels per side; parts of smaller pictures are not compared, as any stroke matches any other
_TOUCHED = 0.12  # largest share of the pixels that a stamp may cover
_FRAMED = 0.2  # if more of the images have a frame, it is no addition but typical of the data, as of digits
_BLOCK = 2048
_PARTS = {"train": "training", "validation": "validation"}
#: What to do about copies across training and validation whose files are known, in the words of the shell.
WITH_FILES = (
    "of each such pair, delete one file or move it out of the folder; or divide the images yourself, into train/ and "
    "val/ with the classes in each, and keep both in one of them"
)


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that are copies of one picture.

    Attributes:
        first: Number of the first image, in the order in which its data set is read, from 0.
        second: Number of the second image in its data set.
        first_part: Data set of the first image, "train" or "validation".
        second_part: Data set of the second image.
        similarity: Share of the variance of one image that the other explains, in [0, 1]; 1 for equal pictures.
        mirrored: Whether one is the mirror image of the other.
        first_label: Class number of the first image, or None.
        second_label: Class number of the second image, or None.
        first_file: Path of the first image, or None where it is not known.
        second_file: Path of the second image, or None.
    """

    first: int
    second: int
    first_part: str
    second_part: str
    similarity: float
    mirrored: bool
    first_label: int | None = None
    second_label: int | None = None
    first_file: str | None = None
    second_file: str | None = None

    @property
    def leak(self) -> bool:
        """Whether one image is in the training data and the other in the validation data."""
        return self.first_part != self.second_part

    @property
    def conflict(self) -> bool:
        """Whether the two images have different labels."""
        known = self.first_label is not None and self.second_label is not None
        return known and self.first_label != self.second_label

    def words(self) -> str:
        """The pair as half a sentence, by its files or positions: "a.jpg (validation) is a mirrored copy of ..."."""
        ends = [
            (self.first_part, self.first_file or f"{self.first_part}[{self.first}]"),
            (self.second_part, self.second_file or f"{self.second_part}[{self.second}]"),
        ]
        if self.leak:
            ends.sort(reverse=True)  # the validation image is the one that may have to go
        # A position names its part itself.
        names = [
            f"{name} ({_PARTS[part]})" if self.leak and not name.startswith(f"{part}[") else name
            for part, name in ends
        ]
        return f"{names[0]} is a {'mirrored ' if self.mirrored else ''}copy of {names[1]}"


@dataclass(frozen=True)
class Duplicates:
    """What `near_duplicates` found.

    Attributes:
        pairs: The pairs: first those with different labels, then those across training and validation, then the others;
            the most similar first within each group.
        counts: "train" or "validation" -> number of images.
        pictures: "train" or "validation" -> small gray pictures of the images, uint8 `(n, 24, 24)`.
        labels: "train" or "validation" -> class numbers of the images, each an integer or None.
        remarks: Sentences on limits of the search, as where the data set shuffles.
    """

    pairs: list[DuplicatePair]
    counts: dict[str, int]
    pictures: dict[str, NDArray[np.uint8]] = field(repr=False, default_factory=dict)
    labels: dict[str, list[int | None]] = field(repr=False, default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def leaks(self) -> list[DuplicatePair]:
        """Pairs across training and validation, which a network can solve by memorizing."""
        return [pair for pair in self.pairs if pair.leak]

    @property
    def conflicts(self) -> list[DuplicatePair]:
        """Pairs with two different labels: at least one of them is wrong."""
        return [pair for pair in self.pairs if pair.conflict]

    def table(self, count: int = 10) -> str:
        """One line with counts, one for each of the first `count` pairs, what to do about leaks, then the remarks."""
        total = sum(self.counts.values())
        pairs = f"{len(self.pairs)} pair{'' if len(self.pairs) == 1 else 's'}"
        lines = [
            f"{total} images: {pairs} of near-duplicates, {len(self.leaks)} across training and validation, "
            f"{len(self.conflicts)} with two labels"
        ]
        for pair in self.pairs[:count]:
            labels = f", labels {pair.first_label} and {pair.second_label}" if pair.conflict else ""
            mirrored = ", mirrored" if pair.mirrored else ""
            if pair.first_file and pair.second_file:
                lines.append(f"  {pair.words()} ({pair.similarity:.1%}{labels})")
                continue
            lines.append(
                f"  {pair.first_part}[{pair.first}] = {pair.second_part}[{pair.second}] "
                f"({pair.similarity:.1%}{mirrored}{labels})"
            )
        if len(self.pairs) > count:
            lines.append(f"  and {len(self.pairs) - count} more")
        if self.leaks and count:
            lines.append(f"  what to do about a leak: {with_leaks(self.leaks)}")
        lines += [f"  {remark}" for remark in self.remarks]
        return "\n".join(lines)

    def to_csv(self, path: Any = None) -> str:
        """CSV text with one row per pair (the fields of `DuplicatePair`), also written to the file `path` if given."""
        names = list(DuplicatePair.__dataclass_fields__)
        return csv_text([names, *([getattr(pair, name) for name in names] for pair in self.pairs)], path)

    def __str__(self) -> str:
        return self.table()


def with_leaks(pairs: Sequence[DuplicatePair]) -> str:
    """What to do about pairs across training and validation, by their files or without."""
    if pairs and all(pair.first_file and pair.second_file for pair in pairs):
        return WITH_FILES
    return "leave one image of each such pair out, or keep both in training or both in validation"


def near_duplicates(
    train: Any, validation: Any = None, *, files: Mapping[str, Sequence[str]] | None = None
) -> Duplicates:
    """Find copies of one picture within a data set, and across training and validation.

    It finds copies that were compressed, resized, mirrored from left to right, made brighter or darker, stamped, put
    into a frame of one color, or cropped by up to a twelfth at each edge. Pictures under 48 pixels per side are only
    compared as a whole, as any stroke matches any other. They have to agree to 99.7 %, and those under 16 pixels per
    side to 99.99 %.

    Candidates come from perceptual hashes: the lowest frequencies of a 24 x 24 gray picture (Zauner 2010,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1). Unlike there, they are not
    reduced to bits, and all pictures are compared with all others.

    A candidate pair counts as copies under two conditions. One picture, moved and scaled, has to explain 95 % of the
    variance of the other, where 12 % of the pixels may be covered. And the most similar other pictures have to leave
    about three times as much unexplained (the ratio test of Lowe 2004, section 7.1), as pictures of one class may all
    be similar.

    Args:
        train: `tf.data.Dataset` of images or `(image, label)`, batched or not, or arrays `x` or `(x, y)`. Images are
            `(height, width)` or `(height, width, channels)`, of any size and value range. The data is read once, batch
            by batch.
        validation: Validation data of the same kinds, or None.
        files: Path of each example of "train" and "validation", as `info.files` of `recipes.data.load`; None takes
            those that data sets of `recipes.data.load` know, also after `take`, `batch` and `prefetch`.

    Returns:
        `Duplicates`. Numbers are positions in the order in which the data set is read; where files are known, the pairs
        name them. A remark says where a data set
        shuffles, so that the numbers are valid for that one reading only.

    Raises:
        ValueError: for an empty or endless data set, or arrays that are not images.
        TypeError: for data of another kind.

    Example:
        >>> found = near_duplicates(train, validation)
        >>> print(found)
        >>> x[found.pairs[0].first]
    """
    parts, kept, labels, frames, side = [], [], [], [], _SMALL
    counts, remarks, lost = {}, [], 0
    for part, data in (("train", train), ("validation", validation)):
        if data is None:
            continue
        counts[part] = 0
        if comes_in_new_order(data):
            remarks.append(f"{part} shuffles anew at every reading: {_ANEW}")
        for images, numbers in image_batches(data, "diagnose.near_duplicates", part):
            gray = gray_levels(images)
            lost += int((~np.isfinite(gray)).any((1, 2)).sum())
            gray = _in_bytes(np.nan_to_num(gray, posinf=0, neginf=0), images.dtype)
            side = min(side, *gray.shape[1:])
            start = sum(counts.values())
            kept.append(np.rint(np.clip(small_pictures(gray), 0, 255)).astype(np.uint8))
            frames += _framed(gray, start)
            labels += [None] * len(images) if numbers is None else numbers.tolist()
            parts.append(len(images))
            counts[part] += len(images)
    paths = {
        part: (files or {}).get(part) or files_in_order(data)
        for part, data in (("train", train), ("validation", validation))
    }
    pictures = np.concatenate(kept)
    if len(frames) > _FRAMED * len(pictures):
        frames = []
    pairs = _proved(pictures, frames, side)
    first_validation = counts["train"]
    found = []
    for i, j, similarity, mirrored in pairs:
        where = [
            ("train", n) if n < first_validation else ("validation", n - first_validation) for n in (i, j)
        ]
        found.append(
            DuplicatePair(
                *(
                    where[0][1],
                    where[1][1],
                    where[0][0],
                    where[1][0],
                    similarity,
                    mirrored,
                    labels[i],
                    labels[j],
                ),
                *(paths[part][n] if n < len(paths[part]) else None for part, n in where),
            )
        )
    found.sort(key=lambda pair: (not pair.conflict, not pair.leak, -pair.similarity, pair.first, pair.second))
    split = np.split(pictures, [first_validation])
    by_part = {"train": labels[:first_validation], "validation": labels[first_validation:]}
    if lost:
        remarks.append(f"{lost} with NaN or infinity were compared as if that were 0")
    if side < _SMALL:
        alike = "99.7 %" if side >= _TINY else "99.99 %"
        remarks.append(
            f"of pictures of {side} pixels, only those that agree to {alike} are found: other copies go unseen"
        )
    return Duplicates(found, counts, {"train": split[0], "validation": split[1]}, by_part, tuple(remarks))


_ANEW = "its numbers are places of this one reading. Give it before shuffle() to find the images by them"


def _in_bytes(gray, dtype):
    """Gray levels in [0, 255], from gray levels in [0, 255], [0, 1] or [-1, 1]."""
    if dtype == np.uint8:
        return gray
    low, high = float(gray.min()), float(gray.max())
    if low >= 0 and high <= 1.001:
        return gray * 255
    return (gray + 1) * 127.5 if low >= -1.001 and high <= 1.001 else gray


def _framed(gray, start):
    """`(number, small picture without the frame)` of the images of a batch that have a frame."""
    found = []
    step = max(1, min(gray.shape[1:]) // 160)
    for number, image in enumerate(gray[:, ::step, ::step], start):
        inner = without_border(image)
        if inner is not None and min(inner.shape) >= 8:
            found.append((number, np.rint(small_pictures(inner[None])[0]).astype(np.uint8)))
    return found


def _proved(pictures, frames, side):
    """`(i, j, similarity, mirrored)` with i < j, of all pairs that count as copies."""
    spectra = descriptors(pictures)
    weights = 1 / np.maximum(spectra.std(axis=0), 1e-3) ** 0.75
    base = _unit(spectra * weights)
    queries = [(base, np.arange(len(base)), None, False), (base * MIRROR, np.arange(len(base)), None, True)]
    if frames:
        numbers = np.array([number for number, _ in frames])
        inner = np.stack([picture for _, picture in frames])
        queries += [
            (_unit(descriptors(inner) * weights * signs), numbers, inner, bool((signs < 0).any()))
            for signs in (np.ones_like(MIRROR), MIRROR)
        ]
    best, small = {}, side < _SMALL
    same = _SAME if not small else _SAME_SMALL if side >= _TINY else _SAME_TINY
    for query, numbers, own, mirrored in queries:
        rows, columns = _candidates(query, numbers, base, symmetric=own is None)
        views = pictures if own is None else own
        left = _residuals(views, rows, pictures, columns, mirrored, small)
        for row, column, value in zip(rows.tolist(), columns.tolist(), left.tolist(), strict=True):
            number = int(numbers[row])
            if value <= same and number != column:
                pair = (min(number, column), max(number, column))
                if pair not in best or value < best[pair][0]:
                    best[pair] = value, mirrored
    return _standing_out(pictures, best)


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _candidates(query, numbers, base, *, symmetric):
    """Row numbers `(of query, of base)` of similar descriptors; each pair once where both are the same images."""
    limit, found, kept = _ALIKE, [], 0
    most = min(_MOST_CANDIDATES, max(10_000, 10 * len(base)))
    for start in range(0, len(query), _BLOCK):
        for other in range(start if symmetric else 0, len(base), _BLOCK):
            cosines = query[start : start + _BLOCK] @ base[other : other + _BLOCK].T
            flat = np.flatnonzero(cosines.ravel() > limit)
            rows, columns = np.divmod(flat, cosines.shape[1])
            values = cosines.ravel()[flat]
            rows, columns = rows + start, columns + other
            wanted = columns > rows if symmetric else columns != numbers[rows]
            found.append((rows[wanted], columns[wanted], values[wanted]))
            kept += int(wanted.sum())
            if kept > 2 * most:
                found, limit, kept = _nearest(found, most)
    if kept > most:
        found = _nearest(found, most)[0]
    if not found:
        return np.zeros(0, int), np.zeros(0, int)
    rows, columns, _ = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns


def _nearest(found, most):
    """Keep only the `most` nearest candidates, for data whose images are all similar."""
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.argpartition(values, -most)[-most:]
    return [(rows[best], columns[best], values[best])], float(values[best].min()), most


def _residuals(views, rows, pictures, columns, mirrored, small):
    """Share of the variance that is left unexplained in each pair, at the best position and size, `(pairs,)`."""
    out = np.ones(len(rows), np.float32)
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        a, b = views[rows[part]].astype(np.float32), pictures[columns[part]].astype(np.float32)
        a = a[:, :, ::-1] if mirrored else a
        # In small pictures, which may be strokes, no pixel counts as covered by a stamp.
        left = unexplained(a, b, rounds=1 if small else 2)
        hopeful = np.flatnonzero((left > _SAME / 3) & (left < 0.6))
        if len(hopeful) and not small:
            moved = [_moved(a[hopeful], b[hopeful]), _moved(b[hopeful], a[hopeful])]
            left[hopeful] = np.minimum(left[hopeful], np.minimum(*moved))
        out[part] = left
    return out


def _moved(one, other):
    """What pictures `(n, SIDE, SIDE)` leave unexplained of others, `(n,)`, if their best part is enlarged.

    The part is searched along one axis after the other, twice, which needs fewer comparisons than all pairs of rows and
    columns.
    """
    choices = lines(0.85)
    best = [np.zeros(len(one), int), np.zeros(len(one), int)]
    for axis in (0, 1, 0, 1):
        fixed = choices[best[1 - axis]]
        turned = np.matmul(one, fixed.transpose(0, 2, 1)) if axis == 0 else np.matmul(fixed, one)
        scores = np.stack(
            [
                unexplained(
                    np.matmul(line, turned) if axis == 0 else np.matmul(turned, line.T), other, rounds=1
                )
                for line in choices
            ]
        )
        best[axis] = scores.argmin(0)
    moved = np.matmul(np.matmul(choices[best[0]], one), choices[best[1]].transpose(0, 2, 1))
    return unexplained(moved, other)


def unexplained(a: NDArray[np.float32], b: NDArray[np.float32], rounds: int = 2) -> NDArray[np.float32]:
    """Share of the variance of pictures that others do not explain, without the pixels that a stamp may cover.

    Each picture is explained by a linear function of the gray levels of the other, so that brightness and contrast do
    not matter.

    Args:
        a: Gray pictures `(n, height, width)`, values in [0, 255].
        b: The other picture of each pair, of the same shape and range.
        rounds: 1 counts all pixels; each further round leaves out the 12 % that the round before explained worst.

    Returns:
        float32 `(n,)` in [0, 1]: 0 for equal pictures, about 1 for unrelated ones, 1 for pictures of one color.
    """
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    count = a.shape[1] - int(_TOUCHED * a.shape[1])
    keep = np.ones_like(a)
    left = np.ones(len(a), np.float32)
    for last in reversed(range(rounds)):
        total = keep.sum(1, keepdims=True)
        x = (a - (a * keep).sum(1, keepdims=True) / total) * keep
        y = (b - (b * keep).sum(1, keepdims=True) / total) * keep
        xx, yy, xy = ((u * v).sum(1) for u, v in ((x, x), (y, y), (x, y)))
        known = (xx > 4 * total[:, 0]) & (yy > 4 * total[:, 0]) & (xy > 0)
        share = np.where(known, xy * xy / np.maximum(xx * yy, 1e-9), 0)
        left = (1 - share).astype(np.float32)
        if not last:
            break
        far = np.abs(y - x * (xy / np.maximum(xx, 1e-9))[:, None])
        limit = np.partition(far, count - 1, axis=1)[:, count - 1 : count]
        keep = (far <= limit).astype(np.float32)
    return left


def _standing_out(pictures, best):
    """The pairs that are much more similar to each other than to other pictures of the same data."""
    if not best:
        return []
    rng = np.random.default_rng(0)
    sample = rng.permutation(len(pictures))[:2000]
    others = pictures[sample].reshape(len(sample), -1).astype(np.float32)
    others -= others.mean(1, keepdims=True)
    others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-6)
    partners = {}
    for i, j in best:
        partners.setdefault(i, set()).add(j)
        partners.setdefault(j, set()).add(i)
    alike = {}
    for number in partners:
        own = pictures[number].reshape(-1).astype(np.float32)
        own -= own.mean()
        likeness = others @ (own / max(float(np.linalg.norm(own)), 1e-6))
        nearest = np.argsort(-likeness)[:50]
        alike[number] = sample[nearest], likeness[nearest]
    kept = []
    for (i, j), (value, mirrored) in best.items():
        related = {i, j} | partners[i] | partners[j]
        rivals = []
        for number in (i, j):
            strangers = ~np.isin(alike[number][0], list(related))
            rivals.append(max(0.0, float(alike[number][1][strangers].max())) if strangers.any() else 0.0)
        if value <= _NEARER * (1 - min(rivals) ** 2):
            kept.append((i, j, round(1 - float(value), 4), mirrored))
    return kept
