"""Images of a folder come one by one, also where `recipes.train` shuffles them: no buffer holds them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import data
from recipes.training.accepted_data import open_source, stream

COUNT = 240


@pytest.fixture
def folder(tmp_path):
    """Images whose color says which one it is; its class is whether that number is odd."""
    for name in ("even", "odd"):
        (tmp_path / name).mkdir()
    for number in range(COUNT):
        pixels = np.full((4, 4, 3), number, "uint8")
        file = tmp_path / ("even", "odd")[number % 2] / f"{number:03d}.png"
        file.write_bytes(tf.io.encode_png(pixels).numpy())
    return tmp_path


def epochs_of(train, first_epoch=0, epochs=2, batch_size=16):
    """The numbers of the images and the labels of each epoch, as `recipes.train` reads them."""
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    source = open_source(train, "train", model=model, batch_size=batch_size, classes=2, shuffle=True, seed=3)
    batches = stream(
        source,
        first_epoch=first_epoch,
        epochs=epochs,
        steps=source.steps,
        transform=lambda batch, place: (*batch, tf.fill(tf.shape(batch[1]), place[0])),
    )
    for images, labels, epoch in batches.as_numpy_iterator():
        yield from zip(images[:, 0, 0, 0].tolist(), labels.tolist(), epoch.tolist(), strict=True)


@pytest.mark.parametrize(
    "options",
    [{}, {"shard": (1, 3)}, {"image_size": 4, "cache": None}, {"image_size": 4, "random_crops": (0.3, 1)}],
)
def test_every_epoch_has_each_image_once_in_an_order_of_its_own_that_a_resumed_run_has_too(folder, options):
    train, _, info = data.load(folder, validation=0.1, verbose=0, **options)
    as_loaded = [(int(image[0, 0, 0]), int(label)) for image, label in train]
    assert len(as_loaded) == (72 if "shard" in options else 216)
    seen = [*epochs_of(train)]
    orders = [[(number, label) for number, label, of in seen if of == epoch] for epoch in range(2)]
    assert all(label == number % 2 for number, label in as_loaded)
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(as_loaded)
    assert orders[0] != orders[1] and as_loaded not in orders
    # Not in order within reach of a buffer: the first batch comes from everywhere.
    place = {example: number for number, example in enumerate(as_loaded)}
    assert max(place[example] for example in orders[0][:16]) > len(as_loaded) / 2
    assert [(number, label) for number, label, _ in epochs_of(train, first_epoch=1)] == orders[1]


def test_an_image_is_read_when_its_batch_comes(folder):
    train, _, _ = data.load(folder, validation=0, verbose=0, cache=None)
    last, label, _ = [*epochs_of(train, epochs=1)][-1]
    file = folder / ("even", "odd")[label] / f"{last:03d}.png"
    examples = epochs_of(train, epochs=1)
    next(examples)  # the checks have looked at all of them by now
    file.unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=str(file)):
        list(examples)


@pytest.mark.parametrize("cache", [None, "memory", "packed"])
def test_what_is_known_of_each_image_is_no_part_of_a_graph(folder, tmp_path, cache):
    options = {"cache": str(tmp_path / "a.packed") if cache == "packed" else cache, "verbose": 0}
    train = data.load(folder, validation=0.25, **options)[0]
    rows, sizes = int(train.cardinality()), []
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    how = {"model": model, "batch_size": 4, "classes": None, "shuffle": True, "seed": 0}
    source = open_source(train, "train", **how)

    @tf.function
    def epoch(number):
        return source.batches(number).reduce(0, lambda count, _: count + 1)

    graph = epoch.get_concrete_function(tf.constant(0, tf.int64)).graph
    for function in graph.as_graph_def(add_shapes=False).library.function:
        for node in function.node_def:
            if node.op == "Const":
                sizes.append(int(np.prod([one.size for one in node.attr["value"].tensor.tensor_shape.dim])))
    assert rows > 12 and max(sizes) < rows, (rows, sorted(sizes)[-3:])
