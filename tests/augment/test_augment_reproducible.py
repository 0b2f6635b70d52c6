"""The same seed gives the same bytes, in tf.data and as a function; another epoch gives others."""

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment

IMAGES = np.random.default_rng(0).integers(0, 256, (22, 12, 10, 3), dtype="uint8")
LABELS = np.arange(22) % 5
STATISTICS = augment.ColorStatistics((120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
OPERATIONS = [
    augment.Flip(),
    augment.PadCrop(2),
    augment.Cutout(4),
    augment.Normalize(STATISTICS),
    augment.MixUp(0.4),
]


def batches():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)


def read(dataset):
    return [(np.asarray(x).tobytes(), np.asarray(y).tobytes()) for x, y in dataset]


@pytest.fixture(scope="module")
def pipeline():
    return augment.Pipeline(OPERATIONS, classes=5, seed=7, jit_compile=False)


@pytest.fixture(scope="module")
def three_epochs(pipeline):
    dataset = batches().apply(pipeline)
    return [read(dataset) for _ in range(3)]


def test_epochs_differ_and_a_second_data_set_repeats_them_at_any_parallelism(pipeline, three_epochs):
    blocks = [images for epoch in three_epochs for images, _ in epoch]
    assert len(set(blocks)) == 9
    for calls in (None, 1, 4):
        again = pipeline.apply(batches(), num_parallel_calls=calls).prefetch(2)
        assert [read(again) for _ in range(3)] == three_epochs


def test_a_fresh_pipeline_of_the_same_config_repeats_them_and_another_seed_does_not(three_epochs):
    config = augment.Pipeline(OPERATIONS, classes=5, seed=7, jit_compile=False).get_config()
    assert read(batches().apply(augment.Pipeline.from_config(config))) == three_epochs[0]
    other = augment.Pipeline.from_config({**config, "seed": 8})
    assert not set(read(batches().apply(other))) & set(three_epochs[0])


def test_a_run_can_start_at_any_epoch(pipeline, three_epochs):
    resumed = pipeline.apply(batches(), first_epoch=1)
    assert [read(resumed), read(resumed)] == three_epochs[1:]
    second = pipeline.apply(batches(), epoch=1)
    assert read(second) == read(second) == three_epochs[1]
    run = tf.data.Dataset.range(1, 3).flat_map(lambda epoch: pipeline.apply(batches(), epoch=epoch))
    assert read(run) == three_epochs[1] + three_epochs[2]


def test_the_call_with_the_seed_of_a_batch_gives_that_batch(pipeline, three_epochs):
    for number, (images, labels) in enumerate(batches()):
        got = pipeline(images.numpy(), labels.numpy(), seed=pipeline.batch_seed(2, number))
        assert tuple(np.asarray(part).tobytes() for part in got) == three_epochs[2][number]


def test_every_image_of_a_batch_has_its_own_draw():
    same = np.broadcast_to(IMAGES[:1], (64, 12, 10, 3))
    moved = augment.Pipeline([augment.PadCrop(5)], jit_compile=False)(same, seed=(1, 2)).numpy()
    assert len({one.tobytes() for one in moved}) > 30  # of 121 shifts, 64 draws hit about 50


def test_cardinality_and_static_shapes_survive(pipeline):
    dataset = batches().apply(pipeline)
    assert int(dataset.cardinality()) == 3
    images, labels = dataset.element_spec
    assert images.shape.as_list() == [None, 12, 10, 3] and images.dtype == tf.float32
    assert labels.shape.as_list() == [None, 5]
    assert int(batches().repeat().apply(pipeline).cardinality()) == tf.data.INFINITE_CARDINALITY


def test_xla_and_plain_tensorflow_give_the_same_batches(pipeline, three_epochs):
    compiled = augment.Pipeline(OPERATIONS, classes=5, seed=7, jit_compile=True)

    for (images, labels), (plain, rows) in zip(
        batches().apply(compiled), batches().apply(pipeline), strict=True
    ):
        np.testing.assert_allclose(images, plain, atol=1e-4)
        np.testing.assert_allclose(labels, rows, atol=1e-6)


def test_direct_calls_without_a_seed_draw_anew_each_time_and_repeat_as_a_sequence():
    def sequence():
        pipeline = augment.Pipeline([augment.PadCrop(3)], jit_compile=False, seed=3)
        return [pipeline(IMAGES).numpy().tobytes() for _ in range(3)]

    first = sequence()
    assert len(set(first)) == 3 and sequence() == first


def test_map_augments_each_batch_differently():
    pipeline = augment.Pipeline([augment.PadCrop(3)], jit_compile=False)
    same = tf.data.Dataset.from_tensors((IMAGES, LABELS)).repeat(3).map(pipeline)
    assert len({np.asarray(images).tobytes() for images, _ in same}) == 3


def test_two_replicas_get_the_batches_one_machine_would(pipeline, three_epochs, two_replicas):
    pieces = two_replicas.experimental_distribute_dataset(batches().apply(pipeline))
    halves = [two_replicas.experimental_local_results(images) for images, _ in pieces]
    whole = [np.concatenate([half.numpy() for half in pair]).tobytes() for pair in halves]
    assert whole == [images for images, _ in three_epochs[0]]


def test_many_pipelines_are_not_taken_for_one_function_traced_again(monkeypatch):
    warned = []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda *words: warned.append(words))
    for seed in range(6):
        pipeline = augment.Pipeline([augment.Flip()], seed=seed, jit_compile=True)
        pipeline(IMAGES[:2, :4, :4], seed=(1, 1))
    assert not warned
