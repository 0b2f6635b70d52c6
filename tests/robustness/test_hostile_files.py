"""Files and names that mean harm: no code runs, no memory is eaten, nothing is written elsewhere."""

import io
import pickle
import struct
import zlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from fresh_process import FreshProcess

import recipes
from recipes import cli, data, plot, preprocess
from recipes.checkpoints.backup_file import read_backup
from recipes.checkpoints.ensemble_snapshots import load_snapshots
from recipes.probe import Record


class _Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_never_read(tmp_path):
    written = tmp_path / "executed"
    plain = pickle.dumps(_Bomb(written))
    inside = io.BytesIO()
    names = ("about", "mean_image", "value_range", "arr_0", "step", "count")
    np.savez(inside, **{name: np.array([_Bomb(written)], object) for name in names})
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    (tmp_path / "snapshots.json").write_text('{"model": null, "ends": [1], "done": [1]}')
    for content in (plain, inside.getvalue(), b"", b"PK\x03\x04 cut"):
        path = tmp_path / "snapshot1.npz"
        path.write_bytes(content)
        for read in (
            preprocess.ImageStatistics.load,
            read_backup,
            Record.load,
            lambda path: load_snapshots(path.parent, model),
        ):
            with pytest.raises(ValueError, match="expects?.*Received"):
                read(path)
    assert not written.exists()
    pickle.loads(plain).close()
    assert written.exists()  # the bomb works


def test_statistics_come_back_from_their_file(tmp_path):
    stats = preprocess.ImageStatistics.fit(np.arange(96, dtype="uint8").reshape(2, 4, 4, 3), verbose=0)
    stats.save(tmp_path / "stats.npz")
    loaded = preprocess.ImageStatistics.load(tmp_path / "stats.npz")
    np.testing.assert_array_equal(loaded.mean_image, stats.mean_image)
    assert [path.name for path in tmp_path.iterdir()] == ["stats.npz"]


def test_models_with_code_in_them_are_not_loaded(tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "model.keras")
    (tmp_path / "history.csv").write_text("epoch,loss\n1,1.0\n")
    (tmp_path / "run.json").write_text('{"finished": true}')
    image = tmp_path / "image.png"
    image.write_bytes(tf.io.encode_png(np.zeros((8, 8, 1), "uint8")).numpy())
    with pytest.raises(ValueError, match="[Ll]ambda"):
        recipes.Run.load(tmp_path)
    words = ["explain", str(tmp_path / "model.keras"), str(image), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "ambda" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def png(width, height, rows):
    """A PNG that declares `width` x `height` black pixels and holds so many rows of them."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * (1 + 3 * width) * rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _jpeg():
    content = tf.io.encode_jpeg(np.zeros((8, 8, 3), "uint8")).numpy()
    frame = content.index(b"\xff\xc0") + 5
    return content[:frame] + struct.pack(">HH", 65000, 65000) + content[frame + 4 :]


BOMBS = {
    "whole.png": lambda: png(13000, 13000, 13000),  # decodes, to 500 MB
    "cut.png": lambda: png(60000, 60000, 3),
    "a.gif": lambda: b"GIF89a" + struct.pack("<HH", 60000, 60000) + bytes(20),
    "a.bmp": lambda: b"BM" + bytes(16) + struct.pack("<ii", 60000, -60000) + bytes(30),
    "a.jpg": _jpeg,
}


@pytest.mark.parametrize("check", [True, False])
def test_image_bombs_are_named_and_not_decoded(tmp_path, check):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(png(8, 8, 8))
    bombs = [tmp_path / "b" / f"z-{name}" for name in BOMBS]
    for path in bombs:
        path.write_bytes(BOMBS[path.name[2:]]())
    with pytest.raises(ValueError, match="more than the .* that are safe to decode") as caught:
        data.load(tmp_path, image_size=8, check=check)
    assert all(str(path) in str(caught.value) for path in bombs)
    assert f"Received {len(bombs)} that do not" in str(caught.value)


def test_the_command_line_refuses_an_image_bomb(tmp_path, capsys):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)]).save(tmp_path / "model.keras")
    (tmp_path / "bomb.png").write_bytes(BOMBS["whole.png"]())
    out = tmp_path / "out"
    words = ["explain", str(tmp_path / "model.keras"), str(tmp_path / "bomb.png"), "--out", str(out)]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "bomb.png" in said and "safe to decode" in said and not out.exists()


NAMES = ("<script>alert(1)</script>", "../../escaped", "$^{\\frac$ & $", "a/b\\c\nd")


def test_hostile_class_names_are_text_in_every_place(tmp_path, digits):
    images, labels = digits
    images, labels = images[:200], labels[:200] % 4
    info = SimpleNamespace(class_names=NAMES, kind="symbols", source="here")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv>b"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    run = recipes.train(
        model,
        (images, labels),
        (images, labels),
        epochs=1,
        info=info,
        preflight=False,
        augment=None,
        verbose=0,
        run_dir=tmp_path / "run",
    )
    page = run.report(tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "$^{\\frac$ &amp; $" in page
    plot.grid(images[:4], titles=list(NAMES), title="$^$").draw_without_rendering()
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert all(name.startswith("run") and "alert" not in name for name in names)


TEN_THOUSAND_CLASSES = """
import resource
from types import SimpleNamespace
import keras, numpy as np
import recipes, recipes.report

classes = 10_000
generator = np.random.default_rng(0)
images = generator.integers(0, 256, (300, 4, 4, 1)).astype("uint8")
labels = generator.integers(0, classes, 300)
labels[:3] = 9_999, 0, 5_000
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((4, 4, 1)),
        keras.layers.Conv2D(2, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax"),
    ]
)
info = SimpleNamespace(class_names=tuple(f"class {n}" for n in range(classes)), kind="symbols", source="here")
kilobytes = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = kilobytes()
run = recipes.train(
    model, (images, labels), (images, labels), epochs=1, info=info, augment=None, verbose=0
)
run.report("report.html")
print("MB", (kilobytes() - before) // 1000)
"""


@pytest.mark.slow
def test_ten_thousand_classes_fit_into_memory_a_page_and_a_check(tmp_path):
    script = tmp_path / "classes.py"
    script.write_text(TEN_THOUSAND_CLASSES, encoding="utf-8")
    process = FreshProcess(script, folder=tmp_path)
    assert process.wait() == 0, process.complained[-2000:]
    assert int(process.printed.split("MB")[1]) < 400  # one matrix of classes x classes is 800 MB
    path = tmp_path / "report.html"
    assert path.stat().st_size < 2e6
    page = path.read_text(encoding="utf-8")
    assert "of 300 held-out examples are right" in page and page.count("taken for") == 10


def test_a_class_without_validation_images_is_said_to_have_none(tmp_path, digits):
    images, labels = digits
    train = (images[:300], labels[:300])
    kept = labels[300:400] != 3
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    )
    run = recipes.train(
        model,
        train,
        (images[300:400][kept], labels[300:400][kept]),
        epochs=1,
        augment=None,
        preflight=False,
        monitor=False,
        verbose=0,
    )
    page = run.report(tmp_path / "report.html").read_text(encoding="utf-8")
    row = page[page.index('<th scope="row">3</th>') :]
    assert row[: row.index("</tr>")].endswith("<td>none</td>")
