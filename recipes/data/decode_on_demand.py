"""Decode an image whenever it is needed; an error names its file."""

import os

import numpy as np
import tensorflow as tf

from recipes.data.image_set import Read
from recipes.data.listing import Listing
from recipes.data.random_crops import draw_crop
from recipes.data.read import Reader


def streamed(listing: Listing, facts: tuple[np.ndarray, ...], reader: Reader) -> Read:
    """How images are read from their files, as `ImageSet.read`; an error names the file."""
    start = os.fsencode(os.path.join(listing.root, ""))
    height, width, channels = reader.expected
    message = (
        f"data.load expects every file to decode, and to be like those it looked at, {height} x {width} with "
        f"{channels} channels. Received the file below, which does not decode, or is different. Repair or delete it, "
        "and load the folder again, with check=True, and with image_size= if there are several sizes."
    )
    if reader.size is not None:
        message = message.replace(f"{height} x {width}", f"which become {height} x {width}")

    def of_rows(rows):
        files = tf.constant(listing.files[rows])
        known = tuple(tf.constant(fact[rows]) for fact in facts)
        return lambda places, first=0, seed=0: read(files, known, places, first, seed)

    def read(files, known, places, first, seed):
        def image(number, place):
            path = tf.strings.join([start, tf.gather(files, place)])
            draws = () if reader.areas is None else (draw_crop(first + number, place, seed),)
            return number, reader(path, *(tf.gather(fact, place) for fact in known), *draws)

        # TensorFlow's errors do not say which file they are about. So images that fail are dropped, and the first
        # number that is missing, or the end, which has number -1, stands beside the name of the file that failed.
        images = places.enumerate().map(image, num_parallel_calls=tf.data.AUTOTUNE)
        end = tf.constant([-1], tf.int64), tf.zeros((1, *reader.expected), tf.uint8)
        images = images.ignore_errors(log_warning=False)
        images = images.concatenate(tf.data.Dataset.from_tensor_slices(end))
        names = places.enumerate().map(lambda number, place: (number, tf.gather(files, place)))

        def named(expected, found):
            (number, file), (came, pixels) = expected, found
            path = tf.strings.join([start, file])
            with tf.control_dependencies([tf.Assert(number == came, [message, path])]):
                return tf.ensure_shape(tf.identity(pixels), reader.expected)

        return tf.data.Dataset.zip((names, images)).map(named)

    return of_rows
