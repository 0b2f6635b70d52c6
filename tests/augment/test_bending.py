"""Perspective and elastic deformation: pixels, and the points that move with them."""

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment
from recipes.augment.engine.operation import Frame
from recipes.augment.engine.resample import resample
from recipes.augment.operations.perspective import project

RANDOM = np.random.default_rng(4)
HEIGHT, WIDTH = 60, 80
FRAME = Frame(HEIGHT, WIDTH, 3, np.zeros(3, "float32"), np.full(3, 255, "float32"))
GRID = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")


def numbers(op, count):
    uniform = {name: tf.constant(RANDOM.random(count), tf.float32) for name in op.draws}
    return uniform | {name: tf.constant(RANDOM.normal(size=count), tf.float32) for name in op.normal_draws}


def test_perspective_is_pils_with_the_corners_of_torchvision():
    image = pytest.importorskip("PIL.Image")
    smooth = 120 + 90 * np.sin(GRID[0] / 7)[..., None] * np.cos(
        GRID[1] / np.array([5, 8, 11]).reshape(3, 1, 1)
    ).transpose(1, 2, 0)
    picture = smooth.astype("uint8")
    op = augment.Perspective(0.5)
    drawn = numbers(op, 3)
    places = [tf.constant(np.tile(one, (3, 1, 1)), tf.float32) for one in GRID]
    y, x = (one.numpy() for one in op.bend(drawn, FRAME, *places))
    for number in range(3):
        value = lambda name: float(drawn[name][number])  # noqa: B023, E731
        ends = [
            (
                value(f"{corner} right") * 0.25 * WIDTH
                if corner[1] == "0"
                else WIDTH - value(f"{corner} right") * 0.25 * WIDTH,
                value(f"{corner} down") * 0.25 * HEIGHT
                if corner[0] == "0"
                else HEIGHT - value(f"{corner} down") * 0.25 * HEIGHT,
            )
            for corner in ("00", "01", "11", "10")
        ]
        starts = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)]
        # torchvision: eight coefficients that take the end points to the start points, solved as linear equations.
        rows, right = [], []
        for (x_end, y_end), (x_start, y_start) in zip(ends, starts, strict=True):
            rows.append([x_end, y_end, 1, 0, 0, 0, -x_start * x_end, -x_start * y_end])
            rows.append([0, 0, 0, x_end, y_end, 1, -y_start * x_end, -y_start * y_end])
            right += [x_start, y_start]
        coefficients = np.linalg.solve(rows, right)
        a, b, c, d, e, f, g, h = coefficients
        depth = g * (GRID[1] + 0.5) + h * (GRID[0] + 0.5) + 1
        np.testing.assert_allclose(
            x[number], (a * (GRID[1] + 0.5) + b * (GRID[0] + 0.5) + c) / depth - 0.5, atol=2e-2
        )
        np.testing.assert_allclose(
            y[number], (d * (GRID[1] + 0.5) + e * (GRID[0] + 0.5) + f) / depth - 0.5, atol=2e-2
        )
        given = {name: tf.constant([value(name)]) for name in op.draws}
        pil = image.fromarray(picture).transform(
            (WIDTH, HEIGHT), image.Transform.PERSPECTIVE, coefficients, image.Resampling.BILINEAR
        )
        places = op.bend(given, FRAME, *(tf.constant(one[None], tf.float32) for one in GRID))
        ours = resample(tf.constant(picture[None]), *places, np.zeros((1, 1, 1, 3), "float32"))[0].numpy()
        inside = (y[number] > 0) & (y[number] < HEIGHT - 1) & (x[number] > 0) & (x[number] < WIDTH - 1)
        assert np.abs(ours - np.asarray(pil).astype(float))[inside].max() <= 1.01


def test_elastic_shifts_have_the_spread_of_a_smoothed_field():
    op = augment.Elastic(3.0, 6.0)
    drawn = numbers(op, 4000)
    at = lambda y, x: op.bend(drawn, FRAME, tf.fill((4000, 1), float(y)), tf.fill((4000, 1), float(x)))  # noqa: E731
    here, near = (
        np.stack([(one - place).numpy().ravel() for one, place in zip(at(*spot), spot, strict=True)])
        for spot in ((20.0, 30.0), (20.0, 38.0))
    )
    np.testing.assert_allclose(here.std(1), 3, rtol=0.05)
    np.testing.assert_allclose(here.mean(1), 0, atol=0.2)
    np.testing.assert_allclose((here * near).mean(1) / 9, np.exp(-64 / (4 * 36)), atol=0.06)
    assert abs((here[0] * here[1]).mean()) < 0.6


@pytest.mark.parametrize(
    "op", [augment.Perspective(0.5), augment.Elastic(2.0, 8.0)], ids=["Perspective", "Elastic"]
)
def test_points_go_where_pixels_go(op):
    drawn = numbers(op, 4)
    y, x = (tf.constant(RANDOM.uniform(0, side, (4, 7)), tf.float32) for side in (HEIGHT, WIDTH))
    back = op.bend(drawn, FRAME, *op.unbend(drawn, FRAME, y, x))
    np.testing.assert_allclose(back[0], y, atol=0.02)
    np.testing.assert_allclose(back[1], x, atol=0.02)


@pytest.mark.parametrize(
    "op", [augment.Perspective(0.5, probability=1), augment.Elastic(2.0, 8.0)], ids=["Perspective", "Elastic"]
)
def test_boxes_and_masks_agree_with_bent_images(op):
    images = np.zeros((4, HEIGHT, WIDTH, 1), "uint8")
    images[:, 20:40, 25:60] = 255
    boxes = np.tile(np.float32([20, 25, 40, 60]), (4, 1, 1))
    pipeline = augment.Pipeline([op], box_format="yxyx", jit_compile=False)
    moved = pipeline(images, masks=images[..., 0] // 255, boxes=boxes, seed=(1, 2))
    for picture, mask, box in zip(
        moved["images"].numpy(), moved["masks"].numpy(), moved["boxes"].numpy(), strict=True
    ):
        found = np.argwhere(mask)
        edges = [*found.min(0), *(found.max(0) + 1)]
        np.testing.assert_allclose(box[0], edges, atol=1.6)
        assert ((picture[..., 0] > 127) != (mask > 0)).mean() < 0.01


def test_points_behind_the_eye_go_far_outside():
    matrix = tf.constant([[[1.0, 0, 0], [0, 1, 0], [0.1, 0, 1]]])
    y, _ = project(matrix, tf.constant([[-20.0, 5.0]]), tf.constant([[0.0, 0.0]]))
    assert y[0, 0] < -1e5 and abs(float(y[0, 1]) - 5 / 1.5) < 1e-5


def test_strengths_that_cannot_be_are_refused():
    for make in (
        lambda: augment.Perspective(1.0),
        lambda: augment.Elastic(-1),
        lambda: augment.Elastic(2, 0),
    ):
        with pytest.raises(ValueError, match="augment.(Perspective|Elastic) expects"):
            make()
