"""Each process of a run gets its part of the data: nothing twice, nothing lost, and the same again in every run."""

import numpy as np
import pytest
import tensorflow as tf

from recipes import augment, data

COUNT = 3


def contents(dataset):
    return [(image.tobytes(), int(label)) for image, label in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("source", ["digits", "folder"])
def test_parts_do_not_overlap_and_are_dealt_out_of_the_whole_in_turn(source, tmp_path):
    if source == "folder":
        for name in ("ant", "bee"):
            (tmp_path / name).mkdir()
            for number in range(8 + (name == "ant")):
                pixels = np.full((4, 5, 3), 10 * number + (name == "bee"), "uint8")
                (tmp_path / name / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
        source = tmp_path
    load = lambda **options: data.load(source, validation=0.25, seed=5, verbose=0, **options)  # noqa: E731
    *splits, info = load()
    parts = [load(shard=(index, COUNT)) for index in range(COUNT)]
    for split, whole in enumerate(splits):
        whole = contents(whole)
        pieces = [contents(part[split]) for part in parts]
        assert sum(map(len, pieces)) == len(whole)
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
        for index, piece in enumerate(pieces):
            assert piece == [example for place, example in enumerate(whole) if place % COUNT == index]
        assert parts[1][split].cardinality() == len(pieces[1])
    assert all(part[2] == info for part in parts)
    assert info.counts["train"] == splits[0].cardinality()


@pytest.fixture(scope="module")
def pipeline():
    return augment.Pipeline([augment.Flip(), augment.PadCrop(2), augment.MixUp(0.4)], classes=10, seed=4)


def epochs_of(dataset, number):
    return [
        [tuple(part.tobytes() for part in batch) for batch in dataset.as_numpy_iterator()]
        for _ in range(number)
    ]


def test_shards_of_a_pipeline_together_are_what_one_process_makes_of_all_batches(pipeline, digits):
    images, labels = (part[:96] for part in digits)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    whole = epochs_of(pipeline.apply(batches), 2)
    for index in range(COUNT):
        mine = batches.shard(COUNT, index)
        first, second = epochs_of(pipeline.apply(mine, shard=(index, COUNT)), 2)
        assert first == whole[0][index::COUNT] and second == whole[1][index::COUNT] and first != second
        # Resumed in another process, and with another number of parallel calls.
        later = pipeline.apply(mine, shard=(index, COUNT), first_epoch=1, num_parallel_calls=None)
        assert epochs_of(later, 1) == [second]
        assert epochs_of(pipeline.apply(mine, shard=(index, COUNT), epoch=1), 1) == [second]


def test_shards_of_the_same_images_draw_differently(pipeline, digits):
    same = tf.data.Dataset.from_tensors(tuple(part[:8] for part in digits)).repeat(4)
    drawn = [
        batch
        for index in range(COUNT)
        for batch in epochs_of(pipeline.apply(same, shard=(index, COUNT)), 1)[0]
    ]
    assert len(set(drawn)) == 4 * COUNT


@pytest.mark.parametrize("shard", [3, (3, 3), (-1, 3), (0, 0), (0.0, 2), (0, 1, 2), (True, 2), "01"])
def test_a_shard_that_cannot_be_is_refused_with_what_to_write(shard, pipeline, digits):
    with pytest.raises(ValueError, match=r"data.load expects shard as .*jax.process_index\(\)"):
        data.load("digits", shard=shard)
    batches = tf.data.Dataset.from_tensors(tuple(part[:8] for part in digits))
    with pytest.raises(ValueError, match="Pipeline.apply expects shard as"):
        pipeline.apply(batches, shard=shard)


def test_more_processes_than_images_are_refused(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(
                tf.io.encode_png(np.zeros((2, 2, 1), "uint8")).numpy()
            )
    with pytest.raises(ValueError, match="at least one image of each split for every shard"):
        data.load(tmp_path, validation=0.5, shard=(0, 3), verbose=0)
