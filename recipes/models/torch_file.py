"""Read the tensors of a PyTorch weights file without PyTorch, and without running code from the file.

A `.pth` file is a pickle, and a pickle can call any function of any installed package when it is loaded. The
reader below accepts only the names of the dictionary, of the tensor and of the kinds of storage; it refuses all others.
It reads only the format that PyTorch wrote before version 1.6, in which many published weights are stored.
"""

import collections
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recipes.common import types

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGES = {
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
}


def read_torch_file(path: types.Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dictionary saved by PyTorch before 1.6.

    Args:
        path: Path of a file whose pickle holds a flat dictionary from names to CPU tensors.

    Returns:
        A dictionary from name to numpy array, in the file's order, of the dtypes in the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file has another format, is incomplete, or asks for anything except tensors.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return _read(file)
        except Refused as refusal:
            raise ValueError(
                f"read_torch_file expects a file that holds tensors and nothing else. {path} asks for {refusal}. "
                "Do not load this file in any other way: get the weights from a source you trust."
            ) from None
        # A damaged pickle can fail with any of these errors; none of them tells the user what is wrong.
        except (
            pickle.UnpicklingError,
            EOFError,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            OverflowError,
            MemoryError,
        ) as error:
            raise ValueError(
                f"read_torch_file expects a complete weights file in the format from before PyTorch 1.6. {path} "
                f"({path.stat().st_size} bytes) is cut short, damaged or of another format: {error!r}. Download or "
                "install it again; save a file of a newer format again with torch.save(..., "
                "_use_new_zipfile_serialization=False)."
            ) from error


class Refused(Exception):
    """The file named something that is not a tensor."""


class TensorUnpickler(pickle.Unpickler):
    """Builds dictionaries and descriptions of tensors; everything else raises `Refused`."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return TensorView
        if module == "torch" and name in STORAGES:
            return name  # a plain string, on which a hostile file can change nothing
        raise Refused(f"{module}.{name}")

    def persistent_load(self, identity: Any) -> Any:
        kind, storage, key, _location, size, view = identity
        if kind != "storage" or view is not None:
            raise Refused(f"a stored object of kind {kind!r}")
        self.storages[key] = (STORAGES[storage], size)
        return key


class TensorView:
    """The position of a tensor in its storage: offset, shape and strides, in numbers."""

    def __init__(
        self,
        storage: Any,
        offset: int,
        shape: Sequence[int],
        strides: Sequence[int],
        *_gradient_and_hooks: Any,
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def __setstate__(self, state: Any) -> None:
        raise Refused("a change to a tensor's description")

    def array(self, storages: Any) -> np.ndarray:
        storage = storages[self.storage]
        shape, strides = tuple(self.shape), tuple(self.strides)
        if len(shape) != len(strides) or min((self.offset, *shape, *strides)) < 0:
            raise ValueError(f"a tensor has shape {shape}, strides {strides} and offset {self.offset}")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.size:
            raise ValueError(
                f"a tensor of shape {shape} reaches beyond its storage of {storage.size} numbers"
            )
        if math.prod(shape) > storage.size:  # a stride of 0 could repeat a few numbers to any size
            raise ValueError(
                f"a tensor of shape {shape} holds more numbers than its storage of {storage.size}"
            )
        bytes_apart = tuple(stride * storage.itemsize for stride in strides)
        view = np.lib.stride_tricks.as_strided(storage[self.offset :], shape, bytes_apart, writeable=False)
        return view.copy()


def _read(file):
    if TensorUnpickler(file).load() != MAGIC_NUMBER or TensorUnpickler(file).load() != PROTOCOL_VERSION:
        raise ValueError("the file does not begin with the magic number and protocol version of this format")
    TensorUnpickler(file).load()  # the word sizes of the machine that wrote the file, which are not needed
    unpickler = TensorUnpickler(file)
    tensors = unpickler.load()
    if not isinstance(tensors, dict) or not all(isinstance(value, TensorView) for value in tensors.values()):
        raise ValueError("the file holds something other than a dictionary of tensors")
    storages = {key: _read_storage(file, *unpickler.storages[key]) for key in TensorUnpickler(file).load()}
    return {name: view.array(storages) for name, view in tensors.items()}


def _read_storage(file, dtype, expected_size):
    size = int.from_bytes(file.read(8), "little")
    data = file.read(size * dtype.itemsize) if size == expected_size else b""
    if len(data) != expected_size * dtype.itemsize:
        raise ValueError(f"a storage of {expected_size} numbers announces {size} and has {len(data)} bytes")
    return np.frombuffer(data, dtype)
