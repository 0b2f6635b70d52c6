"""Masks, boxes, points and maps move with the pixels they belong to."""

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment

HEIGHT, WIDTH = 24, 32
RANDOM = np.random.default_rng(7)
BYTES = RANDOM.integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8)
GEOMETRY = [
    augment.Flip(vertical=True),
    augment.Rotate(40),
    augment.Translate(0.2, 0.2),
    augment.Zoom(0.5),
    augment.Stretch(0.5),
    augment.Shear(0.3, 0.2),
    augment.PadCrop(5),
    augment.Crop(16, 20),
    augment.RandomResizedCrop((18, 40), scale=(0.3, 0.9)),
    augment.ScaleCrop(20, short_side=(24, 36)),
    augment.LensDistortion((0.25, 0.25)),
    augment.LensDistortion((-0.3, -0.3)),
]
CHAINS = [[op] for op in GEOMETRY] + [
    [augment.Rotate(20), augment.LensDistortion((0.2, 0.2)), augment.Shear(0.2)],
    [augment.RandomResizedCrop(20, scale=(0.5, 1)), augment.Rotate(30), augment.Flip()],
    [
        augment.Rotate(15, probability=0.5),
        augment.OneOf([augment.Zoom(0.3), augment.Shear(0.2)], probability=0.7),
    ],
    [augment.PadCrop(4), augment.Cutout(6), augment.Rotate(20)],  # two passes
]
NAMES = [" ".join(type(op).__name__ for op in chain) for chain in CHAINS]


def run(operations, images=BYTES, *, seed=(3, 4), call=None, **options):
    return augment.Pipeline(operations, jit_compile=False, **options)(images, seed=seed, **(call or {}))


@pytest.mark.parametrize("operations", CHAINS, ids=NAMES)
def test_a_keypoint_lands_where_its_pixel_is_read(operations):
    points = np.stack([RANDOM.uniform(6, 17, (6, 40)), RANDOM.uniform(8, 23, (6, 40))], -1).astype("float32")
    y, x = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    ramps = np.broadcast_to(np.stack([y, x], -1), (6, HEIGHT, WIDTH, 2)).astype("float32")
    moved = run(operations, ramps, call={"keypoints": points, "heatmaps": ramps})
    # Heat maps are not erased; four pixels about a point, away from the border, give its source.
    maps, landed = moved["heatmaps"].numpy(), moved["keypoints"].numpy()
    checked = 0
    for image in range(6):
        for point, (row, column) in zip(points[image], landed[image], strict=True):
            top, left = int(np.floor(row)), int(np.floor(column))
            if not (3 <= top < maps.shape[1] - 4 and 3 <= left < maps.shape[2] - 4):
                continue
            down, across = row - top, column - left
            corner = maps[image, top : top + 2, left : left + 2]
            source = np.einsum("i,j,ijc->c", [1 - down, down], [1 - across, across], corner)
            np.testing.assert_allclose(source, point, atol=0.35)
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("op", GEOMETRY[:8], ids=NAMES[:8])
def test_affine_keypoints_are_exact(op):
    points = np.stack([RANDOM.uniform(0, 23, (6, 9)), RANDOM.uniform(0, 31, (6, 9))], -1).astype("float32")
    corners = np.float32([[0, 0], [0, WIDTH - 1], [HEIGHT - 1, 0]])
    every = np.concatenate([points, np.broadcast_to(corners, (6, 3, 2))], 1)
    moved = run([op], call={"keypoints": every})["keypoints"].numpy()
    origin, right, below = moved[:, -3], moved[:, -2], moved[:, -1]
    across, down = (right - origin) / (WIDTH - 1), (below - origin) / (HEIGHT - 1)
    expected = origin[:, None] + points[..., :1] * down[:, None] + points[..., 1:] * across[:, None]
    np.testing.assert_allclose(moved[:, :-3], expected, atol=1e-4)


def test_a_flip_takes_the_first_pixel_to_the_last_one():
    everything = run(
        [augment.Flip(probability=1)],
        call={
            "keypoints": np.tile(np.float32([[[2, 0]]]), (6, 1, 1)),
            "boxes": np.tile(np.float32([0.25, 0, 1, 0.5]), (6, 1)),
            "masks": BYTES[..., 0].astype("int8"),
        },
    )
    np.testing.assert_array_equal(everything["keypoints"], np.tile([[[2, WIDTH - 1]]], (6, 1, 1)))
    np.testing.assert_array_equal(everything["boxes"], np.tile([0.25, 0.5, 1, 1], (6, 1)))
    np.testing.assert_array_equal(everything["masks"], BYTES[:, :, ::-1, 0].astype("int8"))


@pytest.mark.parametrize("operations", CHAINS, ids=NAMES)
def test_masks_are_the_image_where_it_is_of_one_value(operations):
    blobs = np.zeros((6, HEIGHT, WIDTH), "int16")
    blobs[:, 6:18, 8:26] = 7
    images = np.repeat(blobs[..., None] * 30, 3, -1).astype("uint8")
    moved = run(operations, images, call={"masks": blobs, "heatmaps": images.astype("float32")})
    masks, values = moved["masks"].numpy(), moved["heatmaps"].numpy()[..., 0]
    assert masks.dtype == np.int16 and set(np.unique(masks)) <= {0, 7}
    sure = (values < 10) | (values > 200)  # elsewhere two values are blended
    assert sure.mean() > 0.7
    np.testing.assert_array_equal(masks[sure] > 0, values[sure] > 105)


@pytest.mark.parametrize("operations", CHAINS, ids=NAMES)
def test_boxes_enclose_their_masks(operations):
    masks = np.zeros((6, HEIGHT, WIDTH), "uint8")
    masks[:, 8:15, 10:22] = 1
    boxes = np.tile(np.float32([[[8, 10, 15, 22]]]), (6, 1, 1))
    moved = run(operations, call={"masks": masks, "boxes": boxes}, box_format="yxyx", smallest_box_share=0)
    for mask, box in zip(moved["masks"].numpy(), moved["boxes"].numpy()[:, 0], strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            found = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            np.testing.assert_allclose(box, found, atol=1.6)  # a mask has whole pixels


@pytest.mark.parametrize("strength", [0.3, -0.3])
def test_boxes_behind_a_lens_are_those_of_their_bent_outline(strength):
    box = np.float32([3, 5, 21, 30])
    edge = np.linspace(0, 1, 2001)
    y = np.concatenate([np.full(2001, 3), np.full(2001, 21), 3 + 18 * edge, 3 + 18 * edge]) - 0.5 - 11.5
    x = np.concatenate([5 + 25 * edge, 5 + 25 * edge, np.full(2001, 5), np.full(2001, 30)]) - 0.5 - 15.5
    given = np.hypot(y, x) / np.hypot(11.5, 15.5)
    radii = np.linspace(0, 1.1, 200_001)
    straight = (
        np.interp(given, radii * (1 + strength * radii**2), radii) / given
    )  # a table in place of Newton's steps
    y, x = y * straight + 12, x * straight + 16
    expected = np.clip([y.min(), x.min(), y.max(), x.max()], 0, [24, 32, 24, 32])
    op = augment.LensDistortion((strength, strength))
    moved = run([op], call={"boxes": np.tile(box, (6, 1))}, box_format="yxyx")["boxes"]
    np.testing.assert_allclose(moved[0], expected, atol=2e-3)


def test_boxes_of_every_format_are_one_box():
    forms = {
        "yxyx": [3, 5, 15, 21],
        "xyxy": [5, 3, 21, 15],
        "xywh": [5, 3, 16, 12],
        "rel_yxyx": [3 / 24, 5 / 32, 15 / 24, 21 / 32],
        "rel_xyxy": [5 / 32, 3 / 24, 21 / 32, 15 / 24],
        "cxcywh": [13, 9, 16, 12],
        "rel_cxcywh": [13 / 32, 9 / 24, 16 / 32, 12 / 24],
    }
    for form, box in forms.items():
        boxes = np.tile(np.float32([[box]]), (6, 1, 1))
        out = run([augment.Crop(16, 16, probability=0)], call={"boxes": boxes}, box_format=form)["boxes"][
            0, 0
        ]
        # The middle window begins at row 4 and column 8; the box is cut to it.
        top, left, bottom, right = 0, 0, 11, 13
        expected = {
            "xyxy": [left, top, right, bottom],
            "xywh": [left, top, right - left, bottom - top],
            "cxcywh": [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
        }
        plain = expected.get(form.removeprefix("rel_"), [top, left, bottom, right])
        scale = 16 if form.startswith("rel") else 1
        np.testing.assert_allclose(out, np.float32(plain) / scale, atol=1e-5)


def test_boxes_of_which_too_little_remains_become_minus_one_with_their_labels():
    # Columns 8 to 24 stay; of 10 columns 2, 4 and all are left, and one box is padding.
    boxes = np.float32([[0, 0, 24, 10], [0, 2, 24, 12], [0, 10, 24, 20], [-1, -1, -1, -1]])
    labels = np.tile(np.int64([5, 6, 7, -1]), (6, 1))
    for share, left in ((0.1, [5, 6, 7, -1]), (0.3, [-1, 6, 7, -1]), (1.0, [-1, -1, 7, -1])):
        pipeline = augment.Pipeline(
            [augment.Crop(24, 16, probability=0)], box_format="yxyx", smallest_box_share=share
        )
        moved = pipeline(BYTES, boxes=np.tile(boxes, (6, 1, 1)), box_labels=labels)
        np.testing.assert_array_equal(moved["box_labels"], np.tile(left, (6, 1)))
        dropped = moved["box_labels"].numpy() < 0
        np.testing.assert_array_equal(moved["boxes"].numpy()[dropped], -1)
        assert (moved["boxes"].numpy()[~dropped] >= 0).all()


def test_points_that_leave_become_invisible_and_absent_ones_stay():
    points = np.tile(np.float32([[5, 2, 2], [5, 20, 1], [-1, -1, 0]]), (6, 1, 1))
    moved = run([augment.Crop(24, 16, probability=0)], call={"keypoints": points})["keypoints"]
    np.testing.assert_array_equal(moved[0], [[5, -6, 0], [5, 12, 1], [-1, -1, 0]])


def test_points_in_fractions_and_columns_first_are_the_same_points():
    pixels = np.stack([RANDOM.uniform(0, 23, (6, 5)), RANDOM.uniform(0, 31, (6, 5))], -1).astype("float32")
    sides = np.float32([HEIGHT, WIDTH])
    for form, points in (("xy", pixels[..., ::-1]), ("rel_yx", (pixels + 0.5) / sides)):
        one = run([augment.Rotate(30)], call={"keypoints": pixels})["keypoints"].numpy()
        other = run([augment.Rotate(30)], call={"keypoints": points}, keypoint_format=form)[
            "keypoints"
        ].numpy()
        expected = one[..., ::-1] if form == "xy" else (one + 0.5) / sides
        np.testing.assert_allclose(other, expected, atol=1e-4)


def test_outside_is_the_mask_fill_or_what_the_image_shows():
    masks = np.full((6, HEIGHT, WIDTH), 3, "uint8")
    shift = augment.Translate((0.5, 0.5), (0, 0))
    got = run([shift], call={"masks": masks, "pixel_weights": masks * 1.0}, mask_fill=255)
    np.testing.assert_array_equal(got["masks"][:, :12], 255)
    np.testing.assert_array_equal(got["masks"][:, 12:], 3)
    np.testing.assert_array_equal(got["pixel_weights"][:, :12], 0)
    rows = np.arange(HEIGHT, dtype="uint8")[None, :, None] * np.ones((6, 1, WIDTH), "uint8")
    mirrored = run([augment.Translate((0.5, 0.5), (0, 0), fill="reflect")], call={"masks": rows})["masks"]
    np.testing.assert_array_equal(mirrored[0, :12, 0], np.arange(12, 0, -1))


def test_nearest_reads_are_pils():
    pil = pytest.importorskip("PIL.Image")
    mask = RANDOM.integers(0, 21, (1, 30, 40), dtype=np.uint8)
    for size in ((15, 20), (10, 16), (60, 80)):
        op = augment.RandomResizedCrop(size, probability=0)
        got = augment.Pipeline([op])(np.zeros((1, 30, 40, 1), "uint8"), masks=mask)["masks"][0]
        expected = np.asarray(pil.fromarray(mask[0]).resize(size[::-1], pil.NEAREST))
        np.testing.assert_array_equal(got, expected)


def test_heat_maps_are_read_as_images_are():
    maps = BYTES.astype("float32") * 3 - 100  # no range, so not clipped
    operations = [augment.RandomResizedCrop(20), augment.Rotate(20)]
    images = run(operations, BYTES.astype("float32"), call={"heatmaps": maps})
    inside = images["images"].numpy() > 0
    difference = images["heatmaps"].numpy() - (images["images"].numpy() * 3 - 100)
    # Where only pixels of the image are read the two agree; the rest is fill.
    assert np.mean(np.abs(difference[inside]) < 1e-2) > 0.9


def test_compiled_moves_are_the_plain_ones():
    parts = {
        "masks": BYTES[..., 0],
        "heatmaps": BYTES.astype("float32"),
        "boxes": np.tile(np.float32([0.2, 0.2, 0.8, 0.8]), (6, 1)),
    }
    operations = [augment.RandomResizedCrop(20), augment.Rotate(20), augment.Flip()]
    one, other = (
        augment.Pipeline(operations, jit_compile=compiled)(BYTES, seed=(1, 2), **parts)
        for compiled in (True, False)
    )
    assert (
        np.mean(one["masks"].numpy() != other["masks"].numpy()) < 1e-3
    )  # a place on the line between two pixels
    np.testing.assert_allclose(one["heatmaps"], other["heatmaps"], atol=5e-2)
    np.testing.assert_allclose(one["boxes"], other["boxes"], atol=1e-5)


def test_a_data_set_moves_what_its_roles_say():
    elements = {
        "image": BYTES,
        "objects": {
            "bbox": np.tile(np.float32([[[0, 0, 1, 0.5]]]), (6, 1, 1)),
            "label": np.ones((6, 1), "int64"),
        },
        "segmentation": BYTES[..., :1],
        "label": np.arange(6),
        "file": np.array(list("abcdef")),
    }
    roles = {"bbox": "boxes", "objects/label": "box_labels", "segmentation": "masks"}
    pipeline = augment.Pipeline([augment.Flip(probability=1)], roles=roles)
    out = next(iter(tf.data.Dataset.from_tensor_slices(elements).batch(6).apply(pipeline)))
    np.testing.assert_array_equal(out["segmentation"], BYTES[:, :, ::-1, :1])
    np.testing.assert_array_equal(out["image"], BYTES[:, :, ::-1])
    np.testing.assert_array_equal(out["objects"]["bbox"], np.tile([[[0, 0.5, 1, 1]]], (6, 1, 1)))
    np.testing.assert_array_equal(out["label"], np.arange(6))
    assert pipeline.from_config(pipeline.get_config()).roles == pipeline.roles


@pytest.mark.parametrize("op", [augment.MixUp(1.0), augment.CutMix(1.0)])
def test_mixed_masks_hold_the_shares_of_their_pixels(op):
    images = np.zeros((6, HEIGHT, WIDTH, 3), "uint8")
    classes = np.arange(6) % 3
    for channel in range(3):
        images[classes == channel, ..., channel] = 255
    masks = np.broadcast_to(classes[:, None, None], (6, HEIGHT, WIDTH)).astype("uint8")
    mixed = augment.Pipeline([op], classes=3)(images, classes, masks=masks, seed=(1, 2))
    np.testing.assert_allclose(mixed["masks"], mixed["images"] / 255, atol=1e-5)
    np.testing.assert_allclose(mixed["labels"], np.mean(mixed["masks"], (1, 2)), atol=1e-5)


MASK, BOX = BYTES[..., 0], np.tile(np.float32([0, 0, 1, 0.5]), (6, 1))
UNDECLARED = {
    "a mask in the place of labels": (BYTES, MASK),
    "a mask in a dict of labels": (BYTES, {"anything": MASK}),
    "a mask in a tuple of labels": (BYTES, (np.arange(6), MASK)),
    "weights of pixels": (BYTES, np.arange(6), MASK.astype("float32")),
    "a depth map": {"image": BYTES, "z": MASK.astype("float16")[..., None]},
    "boxes below a key": {"image": BYTES, "objects": {"where": BOX[:, None]}},
    "one box per image": (BYTES, BOX),
    "one box in pixels": (BYTES, (BOX * 8).astype("int64")),
    "points": {"image": BYTES, "p": np.zeros((6, 5, 2), "float32")},
    "points in a row": {"image": BYTES, "joints": np.zeros((6, 10), "float32")},
    "a contour in a row": {"image": BYTES, "cell": {"contour": np.zeros((6, 10), "float32")}},
    "a flat mask": (BYTES, np.reshape(MASK, (6, -1))),
    "a flat one-hot mask": (BYTES, np.reshape(BYTES > 99, (6, -1))),
    "a flat map of several channels": (BYTES, np.reshape(BYTES * 0.5, (6, -1))),
    "a flat map": (BYTES, np.reshape(MASK, (6, -1)) * 0.5),
    "a second image beside the inputs": ({"image": BYTES, "right": BYTES}, np.arange(6)),
}


@pytest.mark.parametrize("element", UNDECLARED.values(), ids=UNDECLARED)
def test_what_belongs_to_pixels_without_a_role_is_refused(element):
    data = tf.data.Dataset.from_tensor_slices(element).batch(6)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="roles"):
        next(iter(data.apply(augment.Pipeline([augment.Flip()]))))
    next(iter(data.apply(augment.Pipeline([augment.Brightness()]))))  # moves nothing


@pytest.mark.parametrize(
    "element",
    [
        (BYTES, np.eye(6, 4, dtype="float32") + np.float32([[0, 0, 0, 0]] * 4 + [[0.5, 0.5, 0, 0]] * 2)),
        (BYTES, np.ones((6, 4), "int64")),
        (BYTES, RANDOM.normal(size=(6, 3)).astype("float32")),
        (BYTES, {"a": np.arange(6), "b": np.arange(6.0)}, np.ones((6, 1))),
        {"image": BYTES, "label": np.arange(6), "name": np.array(list("abcdef"))},
    ],
)
def test_labels_of_whole_images_need_no_role(element):
    data = tf.data.Dataset.from_tensor_slices(element).batch(6)
    moved = next(iter(data.apply(augment.Pipeline([augment.Flip(probability=1)]))))
    for before, after in zip(tf.nest.flatten(element), tf.nest.flatten(moved), strict=True):
        mirrored = before[:, :, ::-1] if before is BYTES else before
        np.testing.assert_array_equal(after.numpy().astype(mirrored.dtype), mirrored)


@pytest.mark.parametrize(
    ("options", "call", "words"),
    [
        ({"roles": {"a": "maks"}}, {}, "each role to be one of"),
        ({"roles": {"a": "masks"}}, {}, "names in roles"),
        ({"box_format": "yxhw"}, {}, "box_format to be one of"),
        ({}, {"boxes": BOX * 9}, "boxes as fractions"),
        ({}, {"boxes": tf.ragged.constant([[[0.0, 0, 1, 1]]] * 6, ragged_rank=1)}, "a ragged tensor.*padded"),
        ({"box_format": "xyxy"}, {"boxes": BOX / 2}, "boxes in pixels, .* up to 0.5 .*'rel_yxyx'"),
        ({}, {"boxes": BOX[:, [2, 3, 0, 1]]}, "top, left, bottom, right.* end before they begin.*rel_cxcywh"),
        ({"box_format": "xyxy"}, {"boxes": BOX[:, None, ::-1] * 9}, "left, top, right, bottom.* before they"),
        ({"box_format": "xywh"}, {"boxes": BOX * 9 - [0, 0, 0, 9]}, "sides of boxes that are not negative"),
        ({"keypoint_format": "xy"}, {"keypoints": BOX[:, None, 2:] / 2}, "keypoints in pixels, .*'rel_yx'"),
        ({}, {"boxes": [BOX[:1], BOX[:2]]}, r"one row of 'boxes/0' for each image.*\(1, 4\) for 6.*padded"),
        ({}, {"labels": np.arange(5)}, "one row of 'labels' for each image"),
        ({"mask_fill": -1}, {"masks": MASK}, "mask_fill to be .* 0 to 255. Received mask_fill=-1"),
        ({"mask_fill": 255}, {"masks": MASK > 99}, "mask_fill to be .* 0 to 1. "),
        ({"mask_fill": 0.5}, {"masks": MASK.astype("int8")}, "mask_fill to be .*-128 to 127. "),
        ({}, {"masks": BYTES[:, :9, :, 0]}, "masks of shape"),
        ({}, {"heatmaps": MASK}, "heatmaps of shape .* float"),
        ({}, {"box_labels": np.ones((6, 1), "int64")}, "one entry of boxes"),
    ],
)
def test_roles_that_do_not_fit_are_refused_with_what_to_do(options, call, words):
    with pytest.raises(ValueError, match=words):
        augment.Pipeline([augment.Flip()], **options)(BYTES, **call)
