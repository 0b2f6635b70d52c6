"""The weights reader is checked on files written here by hand, opcode for opcode what PyTorch writes."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from recipes.models.torch_file import MAGIC_NUMBER, PROTOCOL_VERSION, read_torch_file


class Call:
    """Pickles as a call of `function` on `arguments`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Storage:
    def __init__(self, kind, key, numbers):
        self.kind, self.key, self.numbers = kind, key, numbers


@pytest.fixture
def fake_torch(monkeypatch):
    """Modules whose names pickle as PyTorch's do."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def torch_bytes(torch, content, storages):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                size = len(value.numbers)
                return ("storage", getattr(torch, value.kind), value.key, "cpu", size, None)
            return None

    file = io.BytesIO()
    for head in (MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": True}):
        pickle.dump(head, file, protocol=2)
    Pickler(file, protocol=2).dump(content)
    pickle.dump(sorted(storage.key for storage in storages), file, protocol=2)
    for storage in sorted(storages, key=lambda storage: storage.key):
        file.write(struct.pack("<q", len(storage.numbers)) + storage.numbers.tobytes())
    return file.getvalue()


@pytest.fixture
def two_tensors(fake_torch):
    floats = Storage("FloatStorage", "94", np.arange(10, dtype="<f4"))
    longs = Storage("LongStorage", "17", np.array([7], dtype="<i8"))
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
    content = OrderedDict(
        # Element (i, j) of the first lies at 2 + i + 3 j: a transposed view that starts inside its storage.
        turned=Call(rebuild, floats, 2, (2, 3), (1, 3), False, OrderedDict()),
        steps=Call(rebuild, longs, 0, (), (), False, OrderedDict()),
    )
    content._metadata = OrderedDict()  # PyTorch's own state dictionaries carry such an attribute
    return torch_bytes(fake_torch, content, [floats, longs])


def test_reads_strides_offsets_and_dtypes(tmp_path, two_tensors):
    (tmp_path / "good.pth").write_bytes(two_tensors)
    tensors = read_torch_file(tmp_path / "good.pth")
    assert list(tensors) == ["turned", "steps"]
    np.testing.assert_array_equal(tensors["turned"], np.array([[2, 5, 8], [3, 6, 9]], "float32"), strict=True)
    np.testing.assert_array_equal(tensors["steps"], np.array(7), strict=True)


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, pickle.loads])
def test_a_hostile_file_is_refused_and_nothing_in_it_runs(tmp_path, fake_torch, function):
    target = tmp_path / "harmed"
    hostile = {"weight": Call(function, f"touch {target}")}
    (tmp_path / "hostile.pth").write_bytes(torch_bytes(fake_torch, hostile, []))
    with pytest.raises(ValueError, match=rf"asks for \w+\.{function.__name__}\. Do not load"):
        read_torch_file(tmp_path / "hostile.pth")
    assert not target.exists()
    # The file does harm where it is trusted, so that the refusal above means something.
    if function is os.system:
        with (tmp_path / "hostile.pth").open("rb") as file:
            for _ in range(4):
                pickle.load(file)
        assert target.exists()


def test_a_hostile_head_is_refused_before_the_tensors(tmp_path):
    (tmp_path / "head.pth").write_bytes(pickle.dumps(Call(os.system, "false"), protocol=2))
    with pytest.raises(ValueError, match="asks for posix.system|asks for nt.system"):
        read_torch_file(tmp_path / "head.pth")


def test_a_tensor_cannot_reach_outside_its_storage(tmp_path, fake_torch):
    floats = Storage("FloatStorage", "1", np.arange(10, dtype="<f4"))
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
    cases = ((8, (3,), (1,)), (0, (2, 2), (1, 10)), (5, (3,), (-1,)), (-1, (2,), (1,)), (0, (10**8,), (0,)))
    for offset, shape, strides in cases:
        content = {"weight": Call(rebuild, floats, offset, shape, strides, False, OrderedDict())}
        (tmp_path / "far.pth").write_bytes(torch_bytes(fake_torch, content, [floats]))
        with pytest.raises(ValueError, match="damaged"):
            read_torch_file(tmp_path / "far.pth")


def test_every_truncation_and_damage_is_one_clear_error(tmp_path, two_tensors):
    path = tmp_path / "bad.pth"
    for length in range(len(two_tensors)):
        path.write_bytes(two_tensors[:length])
        with pytest.raises(ValueError, match="expects a"):
            read_torch_file(path)
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(two_tensors)
        damaged[random.integers(len(damaged))] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_torch_file(path).values())
        except ValueError as error:
            assert "read_torch_file expects" in str(error)
