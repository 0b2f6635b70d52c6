"""How many planted copies of pictures `diagnose.near_duplicates`, imagehash and cleanvision find.

    python benchmarks/near_duplicates.py                                     # parts of scikit-image's photographs
    python benchmarks/near_duplicates.py PHOTOS --others VENV/bin/python     # recall by kind, false pairs, CPU seconds
    python benchmarks/near_duplicates.py --array cifar.npz --count 50000     # CPU seconds and memory of many images

PHOTOS is a folder of different pictures; without it, squares that do not overlap are cut from photographs. For each of
nine kinds of change, changed copies of sixty pictures are added; ten thousand pairs could be reported wrongly.
imagehash is used with its perceptual hash, at the threshold that finds most copies with at most 1 false pair per 1000
images; cleanvision with its defaults. Both run in a separate environment, on the same files.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from tables import heading, row

from recipes import diagnose

SIDE, PLANTED = 224, 60


def compressed(image, rng):
    held = io.BytesIO()
    image.save(held, "JPEG", quality=int(rng.integers(15, 40)))
    return Image.open(held).convert("RGB")


def cropped(image, rng):
    left, top, right, bottom = (rng.uniform(0, 0.08, 4) * SIDE).round().astype(int)
    return image.crop((left, top, SIDE - right, SIDE - bottom)).resize((SIDE, SIDE))


def stamped(image, rng):
    image, left = image.copy(), int(rng.integers(5, SIDE // 2))
    ImageDraw.Draw(image).rectangle((left, SIDE - 40, left + 90, SIDE - 15), fill=(250, 250, 250))
    return image


def resized(image, rng):
    side = int(rng.integers(60, 150))
    return image.resize((side, side)).resize((SIDE, SIDE))


def framed(image, rng):
    width = int(rng.integers(6, 20))
    return ImageOps.expand(image, width, tuple(int(v) for v in rng.integers(0, 255, 3))).resize((SIDE, SIDE))


KINDS = {
    "compressed": compressed,
    "resized": resized,
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "cropped": cropped,
    "brighter": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.uniform(1.15, 1.4)),
    "darker": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.uniform(0.5, 0.85)),
    "contrast": lambda image, rng: ImageEnhance.Contrast(image).enhance(rng.uniform(0.6, 0.9)),
    "framed": framed,
    "stamped": stamped,
}
HASHED = """
import json, sys, time, numpy as np, imagehash
from PIL import Image
files = json.load(open(sys.argv[1]))
begin = time.process_time()
bits = np.array([imagehash.phash(Image.open(file)).hash.ravel() for file in files])
mirrored = np.array([imagehash.phash(Image.open(file).transpose(0)).hash.ravel() for file in files])
near = [[], []]
for number in range(len(bits)):
    apart = np.minimum((bits[number] != bits[number + 1:]).sum(1), (mirrored[number] != bits[number + 1:]).sum(1))
    for other in np.flatnonzero(apart <= 24):
        near[0].append((number, int(number + 1 + other)))
        near[1].append(int(apart[other]))
json.dump({"pairs": near[0], "apart": near[1], "seconds": time.process_time() - begin}, open(sys.argv[2], "w"))
"""
SEEN = """
import json, sys, time
from cleanvision import Imagelab
files = json.load(open(sys.argv[1]))
begin = time.process_time()
lab = Imagelab(filepaths=files)
lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
numbers = {file: number for number, file in enumerate(files)}
pairs = []
for kind in ("exact_duplicates", "near_duplicates"):
    for group in lab.info.get(kind, {}).get("sets", []):
        members = sorted(numbers[file] for file in group)
        pairs += [(a, b) for i, a in enumerate(members) for b in members[i + 1:]]
json.dump({"pairs": pairs, "seconds": time.process_time() - begin}, open(sys.argv[2], "w"))
"""


def plant(folder, seed=0):
    """`(images, kind of each copy, original of each copy)`; the images are the pictures, then the copies."""
    rng = np.random.default_rng(seed)
    files = sorted(
        path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    originals = [Image.open(file).convert("RGB").resize((SIDE, SIDE)) for file in files]
    images, kinds, sources = [np.asarray(image) for image in originals], [], []
    for kind, change in KINDS.items():
        for number in rng.permutation(len(originals))[:PLANTED]:
            images.append(np.asarray(change(originals[number], rng)))
            kinds.append(kind)
            sources.append(int(number))
    return np.stack(images), kinds, sources


def cut_photographs(folder, side=96):
    """Save squares of the photographs of scikit-image that have some contrast, as files."""
    import skimage.data

    for name in ("astronaut", "chelsea", "coffee", "rocket", "camera"):
        image = getattr(skimage.data, name)()
        for top in range(0, image.shape[0] - side + 1, side):
            for left in range(0, image.shape[1] - side + 1, side):
                part = image[top : top + side, left : left + side]
                if part.std() > 25:
                    Image.fromarray(part).save(f"{folder}/{name}-{top}-{left}.png")


def elsewhere(python, code, images):
    """What another library finds in the same images, saved as files."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{number:05}.png" for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).save(file, compress_level=1)
        told, found = Path(folder) / "told.json", Path(folder) / "found.json"
        told.write_text(json.dumps(files))
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(
            [python, "-c", code, str(told), str(found)], check=True, env=clean, stdout=subprocess.DEVNULL
        )
        return json.loads(found.read_text())


def judge(pairs, images, kinds, sources):
    """`(recall by kind, false pairs)`: a pair is right if both images come from the same picture."""
    count = len(images) - len(kinds)
    origin = np.concatenate([np.arange(count), sources])
    right = {tuple(sorted(pair)) for pair in pairs if origin[pair[0]] == origin[pair[1]]}
    found = [(source, count + place) in right for place, source in enumerate(sources)]
    recall = {kind: sum(f for f, k in zip(found, kinds, strict=True) if k == kind) for kind in KINDS}
    return recall, len({tuple(sorted(pair)) for pair in pairs}) - len(right)


def compare(options):
    images, kinds, sources = plant(options.photos)
    begin = time.process_time()
    found = diagnose.near_duplicates(images)
    results = {"recipes": ([(p.first, p.second) for p in found.pairs], time.process_time() - begin)}
    if options.others:
        hashed = elsewhere(options.others, HASHED, images)
        best = max(range(25), key=lambda limit: _useful(hashed, limit, images, kinds, sources))
        pairs = [pair for pair, apart in zip(hashed["pairs"], hashed["apart"], strict=True) if apart <= best]
        results[f"imagehash, pHash and mirrored, {best} of 64 bits"] = (pairs, hashed["seconds"])
        seen = elsewhere(options.others, SEEN, images)
        results["cleanvision"] = (seen["pairs"], seen["seconds"])
    heading(
        "", *KINDS, "all", "false pairs", "CPU s", title=f"{len(images)} images; of {PLANTED} copies each"
    )
    for name, (pairs, seconds) in results.items():
        recall, false = judge(pairs, images, kinds, sources)
        row(name, *recall.values(), f"{sum(recall.values()) / len(kinds):.3f}", false, f"{seconds:.1f}")


def _useful(hashed, limit, images, kinds, sources):
    pairs = [pair for pair, apart in zip(hashed["pairs"], hashed["apart"], strict=True) if apart <= limit]
    recall, false = judge(pairs, images, kinds, sources)
    return sum(recall.values()) if false <= len(images) / 1000 else -false


def many(options):
    held = np.load(options.array)
    images = np.concatenate([held["x_train"], held["x_test"]])
    images = np.concatenate([images] * -(-options.count // len(images)))[: options.count]
    diagnose.near_duplicates(images[:100])  # loads what is loaded only once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    found = diagnose.near_duplicates(images)
    seconds = time.process_time() - begin
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    heading("images", "pairs", "CPU s", "MB more", title="many images, reading not counted")
    row(len(images), len(found.pairs), f"{seconds:.1f}", f"{memory:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", help="folder of different photos")
    parser.add_argument("--others", help="python of an environment with imagehash and cleanvision")
    parser.add_argument("--array", help=".npz with x_train and x_test")
    parser.add_argument("--count", type=int, default=50000)
    options = parser.parse_args()
    if options.array:
        many(options)
    if options.photos is None and not options.array:
        with tempfile.TemporaryDirectory() as options.photos:
            cut_photographs(options.photos)
            compare(options)
    elif options.photos:
        compare(options)


if __name__ == "__main__":
    main()
