"""Images inside TFRecord files, under names that stand for a part of a file."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import IO, Any

import tensorflow as tf

from recipes.common.types import Path

# An image inside a TFRecord file goes by the file's name, where its record begins, where in the record's content the
# image begins, and its length, in bytes; all names end alike, so that TensorFlow cuts them without parsing.
_IN_RECORD = re.compile(r"(.+)#(\d{15})\+(\d{10})\+(\d{10})", re.DOTALL)
_NAME_LENGTH = 38  # of what follows the file's name
_HEAD, _TAIL = (
    12,
    4,
)  # length and its checksum, before the content of a record; the content's checksum behind it


def name_in_record(file: str, record: int, start: int, length: int) -> str:
    """The name of an image inside a TFRecord file; `opened_image` and `Reader` know it.

    Args:
        file: Path of the TFRecord file.
        record: Byte of the file where the record begins.
        start: Byte of the record's content where the image begins.
        length: Bytes of the image.
    """
    return f"{file}#{record:015d}+{start:010d}+{length:010d}"


def container_of(file: Path) -> str:
    """The file on disk that a name stands for: itself, or the TFRecord file that an image is in."""
    name = os.fsdecode(file)
    inside = _IN_RECORD.fullmatch(name)
    return inside[1] if inside and not os.path.exists(name) else name


def bytes_of_record(length: int) -> int:
    """Bytes of the file that a record with so many bytes of content takes."""
    return _HEAD + length + _TAIL


@contextlib.contextmanager
def opened_image(file: Path) -> Iterator[IO[bytes]]:
    """Open an image for reading, whether a file of its own or inside a TFRecord file.

    Raises:
        OSError: as `open`.
    """
    path = container_of(file)
    with open(path, "rb") as found:
        if path == os.fsdecode(file):
            yield found
            return
        record, start, length = map(int, _IN_RECORD.fullmatch(os.fsdecode(file)).groups()[1:])
        found.seek(record + _HEAD + start)
        yield io.BytesIO(found.read(length))


def cut_out_of_record(name: Any) -> Any:
    """The bytes of an image inside a TFRecord file: TensorFlow reads that record alone and checks its checksum.

    Args:
        name: string scalar, from `name_in_record`.
    """
    length_of_name = tf.strings.length(name)
    path = tf.strings.substr(name, 0, length_of_name - _NAME_LENGTH)

    def number(begin, digits):
        return tf.strings.to_number(
            tf.strings.substr(name, length_of_name - _NAME_LENGTH + begin, digits), tf.int64
        )

    record, start, length = number(1, 15), number(17, 10), number(28, 10)
    of_strings = {"output_types": [tf.string], "output_shapes": [()]}
    # From this record on; without a buffer that would read its neighbors.
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=path[None], compression_type="", buffer_size=start + length, byte_offsets=record[None]
    )
    first = tf.raw_ops.TakeDataset(input_dataset=records, count=1, **of_strings)
    content = tf.raw_ops.DatasetToSingleElement(dataset=first, **of_strings)[0]
    return tf.strings.substr(content, tf.cast(start, tf.int32), tf.cast(length, tf.int32))
