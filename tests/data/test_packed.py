"""Decoded images are kept: in memory, or in one file that is checked and made anew when something changed."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from recipes import data
from recipes.data import packed

random = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (9, 7, 3), "uint8")).save(path)
    return tmp_path / "photos"


def contents(*arguments, **options):
    train, _, info = data.load(*arguments, validation=0, verbose=0, **options)
    return [(image.tobytes(), int(label)) for image, label in train.as_numpy_iterator()], info


@pytest.mark.parametrize("cache", ["memory", "auto"])
def test_decoded_images_stay_in_memory(folder, cache):
    train, _, info = data.load(folder, validation=0, cache=cache, verbose=0)
    before = [image.tobytes() for image, _ in train.as_numpy_iterator()]
    for file in folder.rglob("*.png"):
        file.unlink()
    assert [image.tobytes() for image, _ in train.as_numpy_iterator()] == before and info.cache == "memory"


def test_a_packed_file_gives_what_the_folder_gives(folder, tmp_path):
    file = tmp_path / "photos.packed"
    info = data.pack(folder, file, verbose=0)
    assert info.cache == str(file) and os.path.getsize(file) < 12 * 9 * 7 * 3 + 2000
    expected, _ = contents(folder, cache=None)
    assert contents(folder, cache=file)[0] == expected
    loaded, info = contents(file)
    assert loaded == expected and info.class_names == ("a", "b") and info.source == str(file)


def test_a_second_load_does_not_decode_again(folder, tmp_path, monkeypatch):
    expected, _ = contents(folder, cache=tmp_path / "x.packed")
    monkeypatch.setattr(packed, "write_packed", None)
    assert contents(folder, cache=tmp_path / "x.packed")[0] == expected


@pytest.mark.parametrize("change", ["pixels", "pixels of that time", "more", "fewer", "setting"])
def test_a_changed_folder_is_packed_anew(folder, tmp_path, change):
    file, options = tmp_path / "x.packed", {}
    before, _ = contents(folder, cache=file)
    first = folder / "a" / "0.png"
    times = first.stat()
    if change.startswith("pixels"):
        first.write_bytes((folder / "b" / "1.png").read_bytes())
    if change == "pixels of that time":
        os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    if change == "more":
        Image.new("RGB", (7, 9)).save(folder / "a" / "new.png")
    if change == "fewer":
        first.unlink()
    if change == "setting":
        options["image_size"] = 5
    after, _ = contents(folder, cache=file, **options)
    assert after != before and after == contents(folder, cache=None, **options)[0]


@pytest.mark.parametrize("place", [5, -40, -1])
def test_a_damaged_packed_file_is_noticed(folder, tmp_path, place):
    file = tmp_path / "x.packed"
    expected, _ = contents(folder, cache=file)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    if place != -1:
        with pytest.raises(ValueError, match="data.load expects a whole file that data.pack wrote"):
            data.load(file)
        assert contents(folder, cache=file)[0] == expected
    else:  # it no longer ends like a packed file, and may be anything
        with pytest.raises(ValueError, match="something else"):
            data.load(folder, cache=file)


def test_a_file_that_is_cut_is_noticed(folder, tmp_path):
    file = tmp_path / "x.packed"
    data.pack(folder, file, verbose=0)
    content = file.read_bytes()
    file.write_bytes(content[100:])
    with pytest.raises(ValueError, match="it was cut"):
        data.load(file)


def test_masks_are_not_packed(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "s" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (4, 4), number).save(tmp_path / "s" / name / f"{number}.png")
    with pytest.raises(ValueError, match="images with masks"):
        data.pack(tmp_path / "s", tmp_path / "x.packed", verbose=0)
    data.load(tmp_path / "s", cache=tmp_path / "x.packed", validation=0, verbose=0)
    with pytest.raises(ValueError, match="images with masks"):
        data.load(tmp_path / "x.packed")


def test_nothing_but_a_packed_file_is_overwritten(folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="something else"):
        data.load(folder, cache=tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_auto_takes_a_file_where_memory_is_short(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "free_memory", lambda: 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded, info = contents(folder)
    assert os.path.dirname(info.cache) == packed.cache_folder() == str(tmp_path / "cache" / "keras-recipes")
    assert loaded == contents(folder, cache=None)[0]
    monkeypatch.setattr(packed, "free_disk", lambda path: 100 if path else 0)
    assert data.load(folder, verbose=0)[2].cache is None


def test_an_interrupted_pack_leaves_no_file(folder, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.pack(folder, tmp_path / "x.packed", verbose=0)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name or path.name == "x.packed"]


@pytest.mark.slow
def test_two_processes_pack_one_file(folder, tmp_path):
    program = (
        "import sys; from recipes import data; "
        "print(sum(int(x.sum()) for x, _ in data.load(*sys.argv[1:2], validation=0, "
        "cache=sys.argv[2], verbose=0)[0].as_numpy_iterator()))"
    )
    words = [sys.executable, "-c", program, str(folder), str(tmp_path / "x.packed")]
    runs = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=200)[0].strip() for run in runs]
    expected = sum(int(np.frombuffer(image, "uint8").sum()) for image, _ in contents(folder, cache=None)[0])
    assert said == [str(expected)] * 2
