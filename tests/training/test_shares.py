"""What each of several workers reads and augments of the batches of a run: together, the batches of one process."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import augment
from recipes.common import processes
from recipes.common.datasets import as_share, is_share, reads_generator, remember_reader
from recipes.data.shard import bounds_of_part
from recipes.distribution import MultiWorkerStrategy
from recipes.training.accepted_data import open_source, stream
from recipes.training.training_data import share_of

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (22, 6, 6, 3)).astype("uint8")
PIPELINE = augment.Pipeline(
    [augment.Flip(), augment.PadCrop(1), augment.GaussianNoise(5.0)], value_range=(0, 255), seed=3
)


BATCH, WORKERS = 8, 3  # the last batch has six images


def reader(numbers, first=0):
    """How `data.load` gives images by their numbers: the label is the number itself."""
    del first
    images = tf.constant(IMAGES)
    return numbers.map(lambda number: (images[number], number))


def data(kind):
    if kind == "arrays":
        return IMAGES, np.arange(22)
    examples = reader(tf.data.Dataset.range(22))
    if kind == "batched":
        return examples.batch(BATCH)
    if kind == "by number":
        remember_reader(examples, reader)
    return examples


def batches(source, share=None, first_step=0):
    """Two epochs as `fit` reads them, as numpy."""

    def transform(batch, place):
        part = None if share is None else (place[2], place[3])
        return PIPELINE(*batch, seed=PIPELINE.batch_seed(place[0], place[1]), part=part)

    options = {"first_epoch": 0, "first_step": first_step, "epochs": 2, "steps": source.steps}
    return list(stream(source, transform=transform, share=share, **options).as_numpy_iterator())


@pytest.mark.parametrize("kind", ["arrays", "examples", "batched", "by number"])
def test_the_parts_of_all_workers_are_the_batches_of_one_process(kind):
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(30)])
    options = {"model": model, "batch_size": BATCH, "classes": None, "shuffle": True, "seed": 4, "maps": None}
    source = open_source(data(kind), "train", **options)
    whole = batches(source)
    parts = [batches(source, (index, WORKERS)) for index in range(WORKERS)]
    resumed = batches(source, (1, WORKERS), first_step=2)
    for step, (images, labels) in enumerate(whole):
        pieces = [worker[step] for worker in parts]
        assert [len(piece[1]) for piece in pieces] == [len(rows) for rows in np.array_split(labels, WORKERS)]
        np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), labels)
        np.testing.assert_allclose(np.concatenate([piece[0] for piece in pieces]), images, atol=1e-3)
        if step >= 2:
            np.testing.assert_array_equal(resumed[step][0], pieces[1][0])
    assert (source.parts is not None) == (kind in ("arrays", "by number"))


def test_the_mark_of_a_share_stays_with_what_is_made_of_it():
    share = as_share(tf.data.Dataset.range(4)).map(lambda number: number + 1).prefetch(1)
    assert is_share(share) and not is_share(tf.data.Dataset.range(4)) and not is_share(IMAGES)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_of_a_batch_are_those_of_numpy_array_split(size, count):
    parts = [bounds_of_part(size, index, count) for index in range(count)]
    tensors = [bounds_of_part(tf.constant(size, tf.int64), index, count) for index in range(count)]
    assert parts == [(int(first), int(end)) for first, end in tensors]
    if size >= count:
        expected = np.array_split(np.arange(size), count)
        assert [list(range(*part)) for part in parts] == [rows.tolist() for rows in expected]
    else:  # each has an image, some of them the same
        assert all(0 <= first < size and end == first + 1 for first, end in parts)


@pytest.mark.parametrize("first", [0, 5])
def test_a_part_of_a_batch_is_augmented_as_among_the_others(first):
    whole = PIPELINE(IMAGES, seed=(1, 2))
    part = PIPELINE(IMAGES[first : first + 7], seed=(1, 2), part=(first, 22))
    np.testing.assert_allclose(part, whole[first : first + 7], atol=1e-3)


def test_a_part_of_a_batch_that_is_mixed_is_refused():
    mixing = augment.Pipeline([augment.MixUp(0.2)], value_range=(0, 255), classes=3)
    with pytest.raises(ValueError, match="expects a whole batch where images are mixed"):
        mixing(IMAGES[:4], np.arange(4) % 3, seed=(1, 2), part=(0, 8))


def test_batches_that_do_not_divide_over_the_workers_are_told_or_refused(monkeypatch, capsys):
    strategy = object.__new__(MultiWorkerStrategy)  # its constructor waits for the others
    monkeypatch.setattr(processes, "_workers", processes._Workers(0, 3, lambda: None, {}))
    source = types.SimpleNamespace(batched=False, endless=False)

    def shared(batch_size):
        settings = types.SimpleNamespace(strategy=strategy, batch_size=batch_size, verbose=1)
        return share_of(source, None, settings), capsys.readouterr().out

    assert shared(9) == ((0, 3), "")
    share, said = shared(8)
    assert share == (0, 3) and "batches of 8 images do not divide over 3 workers" in said
    assert "batch_size=6 would divide" in said
    with pytest.raises(ValueError, match="batches of 2 for 3 workers"):
        shared(2)


def test_what_keras_makes_of_a_python_generator_is_told_from_what_can_be_read_again():
    adapters = keras.src.trainers.data_adapters

    def generate():
        yield IMAGES[:4], np.arange(4)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return IMAGES[:4], np.arange(4)

    def made_of(adapter, data, **options):
        return adapter(data, **options).get_tf_dataset()

    assert reads_generator(made_of(adapters.generator_data_adapter.GeneratorDataAdapter, generate()))
    again = [
        made_of(adapters.py_dataset_adapter.PyDatasetAdapter, Batches(), class_weight=None),
        made_of(adapters.array_data_adapter.ArrayDataAdapter, IMAGES),
        tf.data.Dataset.from_generator(generate, output_types=(tf.uint8, tf.int64)),
        reader(tf.data.Dataset.range(4)),
    ]
    assert not any(map(reads_generator, again))
