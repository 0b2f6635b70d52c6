"""Groups, policies, passes, and pipelines written down and read again."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment

# A dark pixel on a white one tells which of four operations an image got.
MARKERS = [augment.Cutout(1, fill=value) for value in (10.0, 20.0, 30.0, 40.0)]
ONE_PIXEL = np.full((4000, 1, 1, 1), 200, "float32")
PHOTOS = np.random.default_rng(3).integers(0, 256, (6, 16, 14, 3), dtype="uint8")


def run(operations, images, *, seed=(3, 4), **options):
    return augment.Pipeline(operations, jit_compile=False, **options)(images, seed=seed).numpy()


def test_one_of_gives_each_image_one_operation_with_the_asked_chances():
    got = run([augment.OneOf(MARKERS, weights=(1, 2, 5, 0), probability=0.8)], ONE_PIXEL)[:, 0, 0, 0]
    values, counts = np.unique(got, return_counts=True)
    np.testing.assert_array_equal(values, [10, 20, 30, 200])
    np.testing.assert_allclose(counts / 4000, [0.1, 0.2, 0.5, 0.2], atol=4 * 0.5 / np.sqrt(4000))


def test_some_of_gives_each_image_as_many_different_operations_as_asked():
    # Brightness factors 2, 3, 5 and 7: the product tells which were applied.
    factors = [augment.Brightness((prime, prime)) for prime in (2, 3, 5, 7)]
    ones = np.ones((4000, 1, 1, 1), "float32")
    for count, lengths in ((2, {2}), ((1, 3), {1, 2, 3})):
        products = np.rint(run([augment.SomeOf(factors, count=count)], ones)[:, 0, 0, 0]).astype(int)
        chosen = np.array([[product % prime == 0 for prime in (2, 3, 5, 7)] for product in products])
        np.testing.assert_array_equal([np.prod(np.array([2, 3, 5, 7])[row]) for row in chosen], products)
        assert set(chosen.sum(1)) == lengths
        np.testing.assert_allclose(chosen.mean(0), 0.5, atol=4 * 0.5 / np.sqrt(4000))
        np.testing.assert_allclose(
            np.bincount(chosen.sum(1), minlength=4)[sorted(lengths)] / 4000, 1 / len(lengths), atol=0.032
        )


def test_members_act_as_they_would_alone():
    ops = [
        augment.Rotate((30, 30)),
        augment.Brightness((0.5, 0.5)),
        augment.GaussianBlur(0.7, probability=1),
        augment.Translate((0.2, 0.2), (0.2, 0.2)),
    ]
    alone = [run([op], PHOTOS[:1])[0] for op in ops]
    seen = set()
    for one in run([augment.OneOf(ops)], np.repeat(PHOTOS[:1], 60, 0)):
        distances = [np.abs(one - other).max() for other in alone]
        assert min(distances) < 1e-2
        seen.add(int(np.argmin(distances)))
    assert seen == {0, 1, 2, 3}


def test_trivial_augment_gives_one_operation_or_none_of_every_strength():
    op = augment.TrivialAugment()
    assert [type(member).__name__ for member in op.operations] == [
        "Rotate", "Shear", "Shear", "Translate", "Translate", "Brightness", "Contrast", "Saturation",
    ]  # fmt: skip
    many = np.repeat(PHOTOS[:1], 1800, 0)
    same = (run([op], many) == many).all((1, 2, 3))
    # One choice in nine is nothing, and a shift of -2 to 2 pixels, along one axis or the other, is none in a fifth.
    chance = 1 / 9 + 2 / 9 / 5
    assert abs(same.mean() - chance) < 4 * np.sqrt(chance * (1 - chance) / 1800)
    gray = run([augment.TrivialAugment(color=False)], many[..., :1])
    assert gray.shape == (1800, 16, 14, 1)


def test_rand_augment_at_magnitude_zero_is_the_identity_and_grows_with_magnitude_and_count():
    many = np.repeat(PHOTOS[:1], 300, 0)
    np.testing.assert_allclose(run([augment.RandAugment(2, 0)], many), many, atol=2e-3)
    distance = lambda *args: np.abs(run([augment.RandAugment(*args)], many) - many).mean()  # noqa: E731
    assert distance(1, 3) < distance(1, 20) < distance(3, 20)


def test_passes_are_cut_where_the_list_goes_back_and_shown():
    one = augment.Pipeline(
        [
            augment.Flip(),
            augment.Rotate(9),
            augment.Contrast(0.1),
            augment.Cutout(4),
            augment.GaussianBlur(1),
            augment.MixUp(),
        ]
    )
    assert "pass" not in repr(one)
    two = augment.Pipeline([augment.Cutout(4), augment.Rotate(9), augment.MixUp()])
    assert repr(two).splitlines()[1:6] == [
        "    # pass 1 of 2",
        "    Cutout(4),",
        "    # pass 2 of 2",
        "    Rotate(9),",
        "    MixUp(),",
    ]
    fills = augment.Pipeline([augment.PadCrop(2, fill="reflect"), augment.Flip(), augment.Rotate(9)])
    assert "pass 2 of 2\n    Rotate(9)" in repr(fills)


def test_a_list_order_that_needs_two_passes_is_honored():
    dark_hole = [
        augment.Brightness((1, 1)),
        augment.Cutout(6, fill="black"),
        augment.Rotate((45, 45), fill=90.0),
    ]
    images = np.full((8, 16, 16, 1), 200, "float32")
    turned = run(dark_hole, images)
    hole = run(dark_hole[:2], images)
    np.testing.assert_allclose(turned, run([augment.Rotate((45, 45), fill=90.0)], hole), atol=1e-3)


EVERYTHING = [
    augment.Flip(vertical=True),
    augment.SomeOf(
        [augment.Rotate(augment.PlusMinus(20)), augment.Shear(0.1, probability=0.5)], count=(0, 2)
    ),
    augment.ColorJitter(0.2, (0.5, 1.5), hue=0.1),
    augment.FancyPCA(
        augment.ColorStatistics((120.0,) * 3, (60.0,) * 3, (9e3, 9e2, 3e2), np.eye(3).tolist()), 0.2
    ),
    augment.RandomErasing(fill=(1.0, 2.0, 3.0)),
    augment.Normalize(augment.ColorStatistics((120.0,) * 3, (60.0,) * 3)),
    augment.GaussianBlur(0.6),
    augment.OneOf([augment.MixUp(0.4), augment.CutMix()], weights=(1, 2)),
]


@pytest.mark.parametrize(
    "operations",
    [EVERYTHING, [augment.RandAugment(1, 5)], [augment.TrivialAugment(wide=False)]],
    ids=["everything", "rand", "trivial"],
)
def test_config_survives_json_and_repr_is_the_code_that_made_it(operations):
    pipeline = augment.Pipeline(operations, classes=3, seed=5, jit_compile=False)
    images, labels = PHOTOS, np.arange(6) % 3
    expected = [part.numpy() for part in pipeline(images, labels, seed=(1, 2))]
    read = augment.Pipeline.from_config(json.loads(json.dumps(pipeline.get_config())))
    typed = eval(repr(pipeline), vars(augment).copy())
    for again in (read, typed):
        assert repr(again) == repr(pipeline)
        for one, other in zip(again(images, labels, seed=(1, 2)), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["photos", "symbols"])
@pytest.mark.parametrize("strength", ["light", "medium", "strong"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 40, 3)])
def test_standard_keeps_what_its_docstring_promises(kind, strength, shape):
    pipeline = augment.standard(shape, kind=kind, strength=strength, classes=4, seed=3, jit_compile=False)
    inside = {type(leaf).__name__ for op in pipeline.operations for leaf in getattr(op, "operations", [op])}
    assert ("Flip" in inside) == (kind == "photos")
    assert kind == "photos" or not inside & {"Brightness", "Contrast", "Saturation", "Hue"}
    holes = [op.size for op in pipeline.operations if isinstance(op, augment.Cutout)]
    assert bool(holes) == (strength != "light") and all(size <= min(shape[:2]) / 4 for size in holes)
    assert bool(inside & {"MixUp", "CutMix"}) == (strength == "strong")
    assert "Normalize" not in inside and "pass 2" not in repr(pipeline).replace("pass 2 of 1", "")
    images = np.random.default_rng(4).integers(0, 256, (6, *shape), dtype="uint8")
    out, labels = pipeline(images, np.arange(6) % 4, seed=(1, 2))
    assert out.shape == images.shape and out.dtype == "float32"
    assert labels.shape == ((6, 4) if strength == "strong" else (6,))
    assert np.abs(out - images).max() > 1 and 0 <= np.min(out) and np.max(out) <= 255


def test_the_full_space_wants_colors():
    with pytest.raises(ValueError, match="space to be 'linear' or 'full'"):
        augment.RandAugment(space="full", color=False)


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (augment.RandAugment(), r"RandAugment expects .* of 4 channels\. Write RandAugment\(color=False\)"),
        (augment.TrivialAugment(), r"TrivialAugment .* 4 channels\. Write TrivialAugment\(color=False\)"),
        (augment.AutoAugment(), r"AutoAugment .* 4 channels\. .*RandAugment\(color=False\) in its place"),
        (augment.ColorJitter(0.1, 0.2), r"4 channels\. Write ColorJitter\(0.1, 0.2, 0\)"),
    ],
)
def test_colors_of_four_channels_are_refused_by_the_name_that_was_written(op, words):
    with pytest.raises(ValueError, match=words):
        augment.Pipeline([op])(np.zeros((2, 8, 8, 4), "uint8"))


def test_a_pair_is_no_height_of_a_crop():
    with pytest.raises(ValueError, match=r"two numbers. Received a pair, \(40, 32\). Write Crop\(40, 32\)"):
        augment.Crop((40, 32))


def test_no_operation_leaves_the_graph_for_python():
    operations = [
        *(augment.Flip(), augment.Elastic(1, 4), augment.RandomErasing(), augment.Equalize()),
        *(
            augment.RandAugment(space="full"),
            augment.GaussianBlur(),
            augment.GaussianNoise(),
            augment.MixUp(),
        ),
    ]
    images = tf.data.Dataset.from_tensors(PHOTOS)
    graph = images.apply(augment.Pipeline(operations))._as_serialized_graph().numpy()
    library = tf.compat.v1.GraphDef.FromString(graph).library.function
    used = {node.op for function in library for node in function.node_def}
    assert "StatelessRandomUniformV2" in used
    assert not any("PyFunc" in op for op in used)
    for file in Path(augment.__file__).parent.rglob("*.py"):
        assert not re.search("py_function|numpy_function|py_func", file.read_text(encoding="utf-8")), file


def test_the_gallery_shows_every_operation_on_a_page():
    pytest.importorskip("skimage")
    path = Path(augment.__file__).parents[2] / "examples" / "augmentation_gallery.py"
    spec = importlib.util.spec_from_file_location("augmentation_gallery", path)
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    rows = [row for page in gallery.pages(gallery.photographs(32)).values() for row in page.values()]
    shown = {type(op) for row in rows for _, op in row}
    every = {getattr(augment, name) for name in augment.__all__}
    missing = [one for one in every if isinstance(one, type) and issubclass(one, augment.Operation)]
    assert [one.__name__ for one in missing if one not in shown and one is not augment.Operation] == []
    assert {len(row) for row in rows} == {6}
