"""Folders as people have them: official parts, labels in tables, masks, leftovers."""

import os

import numpy as np
import pytest
from PIL import Image

from recipes import data

random = np.random.default_rng(0)


def labels_of(dataset):
    return sorted(np.array(label).tolist() for _, label in dataset.as_numpy_iterator())


def load(*arguments, **options):
    return data.load(*arguments, verbose=0, **options)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation"), ("train", "valid")])
def test_official_parts_are_kept(tree, names):
    root = tree(f"{p}/{c}/{i}.png" for p in names for c in ("cat", "dog") for i in range(2 + (p[0] in "tT")))
    train, validation, info = load(root)
    assert info.counts == {"train": 6, "validation": 4} and info.class_names == ("cat", "dog")
    assert labels_of(train) == [0, 0, 0, 1, 1, 1] and labels_of(validation) == [0, 0, 1, 1]
    if "test" in names:
        assert load(root, part="test")[2].counts == {"train": 6, "validation": 0}


def test_classes_are_numbered_over_all_parts(tree, capsys):
    root = tree(["train/cat/0.png", "train/dog/0.png", "train/fox/0.png", "val/cat/0.png", "val/fox/0.png"])
    train, validation, info = load(root)
    assert labels_of(train) == [0, 1, 2] and labels_of(validation) == [0, 2]
    assert "'dog' (1 of 3 classes) has no image in val/" in capsys.readouterr().out
    assert "dog" in info.notes[0]


def test_a_part_alone_is_numbered_like_the_whole_by_class_names(tree, capsys):
    root = tree(["train/cat/0.png", "train/dog/0.png", "train/fox/0.png", "val/cat/0.png", "val/fox/0.png"])
    load(root / "val", validation=0)
    assert "the same number can mean another class" in capsys.readouterr().out
    names = load(root / "train", validation=0)[2].class_names
    assert labels_of(load(root / "val", validation=0, class_names=names)[0]) == [0, 2]


@pytest.mark.parametrize(
    "files",
    [["test/cat/0.png", "test/dog/0.png"], ["test/0.png", "train/0.png"], ["val/a/0.png", "test/a/0.png"]],
)
def test_no_advice_leads_to_the_test_set(tree, files):
    root = tree(files)
    with pytest.raises(ValueError) as raised:
        load(root)
    assert f"load({os.fspath(root / 'test')!r}" not in str(raised.value)


def test_images_at_any_depth_are_of_the_class_above(tree):
    root = tree(["cat/persian/1.png", "cat/2.png", "dog/x/y/3.png"])
    assert load(root, validation=0)[2].class_counts == (2, 1)


def test_what_systems_leave_behind_is_not_read(tree):
    junk = [
        "__MACOSX/cat/._1.png",
        "@eaDir/x.png",
        "cat/notes.txt",
        "cat/.DS_Store",
        "dog/Thumbs.db",
        "cat/x.csv",
    ]
    root = tree(["cat/1.png", "dog/1.PNG", "dog/without_ending.png", *junk], dict.fromkeys(junk, b"junk"))
    (root / "dog/without_ending.png").rename(root / "dog/without_ending")
    info = load(root, validation=0)[2]
    assert info.class_names == ("cat", "dog") and info.class_counts == (1, 2)


def test_a_link_in_a_circle_is_not_followed(tree):
    root = tree(["cat/1.png", "dog/1.png"])
    (root / "cat" / "loop").symlink_to(root, target_is_directory=True)
    assert load(root, validation=0)[2].class_counts == (1, 1)


def test_class_names_settle_order_as_well_as_choice(tree, capsys):
    root = tree([f"{name}/1.png" for name in "abc"])
    train, _, info = load(root, validation=0, class_names=["c", "a"])
    assert info.class_names == ("c", "a") and labels_of(train) == [0, 1]
    assert "'b'" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="Received 'aa', which is not among them. Take one of the nearest: 'a'"
    ):
        load(root, class_names=["aa", "b"])


def test_bad_files_are_skipped_with_their_reasons(tree):
    root = tree(["a/1.png", "a/2.png", "b/1.png", "b/2.jpg"], {"a/2.png": b"text", "b/2.jpg": b""})
    for cache in (None, "memory", root / "x.packed", root / "x.packed"):
        train, _, info = load(root, validation=0, on_error="skip", cache=cache)
        assert labels_of(train) == [0, 1] and len(info.skipped) == 2
        assert info.skipped[0] == f"{root / 'a/2.png'}: Unknown image file format."


FLAT = [f"cat.{i}.jpg" for i in range(2)] + [f"sub/dog.{i}.jpg" for i in range(3)]
CAT_OR_DOG = [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "labels",
    [
        r"(\w+)\.\d+\.jpg",
        r"(?P<animal>\w)(?P<label>\w+)\.",
        lambda path: path.name.split(".")[0],
        {name: name.rpartition("/")[2][:3] for name in FLAT},
        [0, 0, 1, 1, 1],
    ],
    ids=["expression", "named group", "function", "dictionary", "list"],
)
def test_labels_stand_in_names_or_functions(tree, labels):
    assert labels_of(load(tree(FLAT), labels=labels, validation=0)[0]) == CAT_OR_DOG


@pytest.mark.parametrize(
    "text",
    [
        "id,breed\n" + "".join(f"{name},{name.rpartition('/')[2][:3]}\n" for name in FLAT),
        "label;image\n" + "".join(f"{n.rpartition('/')[2][:3]};{n.rpartition('/')[2][:-4]}\n" for n in FLAT),
        "".join(f"{name.rpartition('/')[2]},{name.rpartition('/')[2][:3]}\n" for name in FLAT),
        "image,cat,dog\n" + "".join(f"{name},{int('cat' in name)},{int('dog' in name)}\n" for name in FLAT),
    ],
    ids=["paths", "names without endings", "no header", "one column a class"],
)
def test_labels_stand_in_a_table(tree, text):
    pandas = pytest.importorskip("pandas")
    root = tree(FLAT)
    (root / "labels.csv").write_text(text)
    assert labels_of(load(root, labels="labels.csv", validation=0)[0]) == CAT_OR_DOG
    assert labels_of(load((root / "labels.csv", root), validation=0)[0]) == CAT_OR_DOG
    if "," in text.partition("\n")[0] and "cat.0" not in text.partition("\n")[0]:
        frame = pandas.read_csv(root / "labels.csv")
        assert labels_of(load((frame, root), validation=0)[0]) == CAT_OR_DOG
        first = frame.columns[0]
        frame[first] = [os.fspath(root / name) for name in frame[first]]
        assert labels_of(load(frame, validation=0)[0]) == CAT_OR_DOG


def test_whole_numbers_are_sorted_as_numbers(tree):
    root = tree([f"{i}.png" for i in range(12)])
    info = load(root, labels={f"{i}.png": i for i in range(12)}, validation=0)[2]
    assert info.class_names == tuple(map(str, range(12)))


@pytest.mark.parametrize(
    "text",
    ["image,tags\ncat.0,wet wild\ncat.1,wild\n", "image,label\ncat.0,wet|wild\ncat.1,wild\n"]
    + ["image,wet,wild\ncat.0,1,1\ncat.1,0,1\n"],
)
def test_several_labels_make_rows(tree, text):
    root = tree(FLAT[:2])
    (root / "m.csv").write_text(text)
    train, _, info = load(root, labels="m.csv", validation=0)
    assert info.task == "multi_label" and info.class_names == ("wet", "wild") and info.class_counts == (1, 2)
    assert labels_of(train) == [[0, 1], [1, 1]] and train.element_spec[1].dtype == "float32"


def test_a_column_says_which_part_a_file_is_of(tree):
    root = tree(FLAT)
    rows = zip(FLAT, ("train", "val", "train", "val", "test"), strict=True)
    text = "".join(f"{name},{name.rpartition('/')[2][:3]},{part}\n" for name, part in rows)
    (root / "labels.csv").write_text("file,label,split\n" + text)
    train, validation, _ = load(root, labels="labels.csv")
    assert labels_of(train) == labels_of(validation) == [0, 1]
    assert labels_of(load(root, labels="labels.csv", part="test")[0]) == [1]


@pytest.mark.parametrize(
    "labels, message",
    [
        ("labels.csv", "which does not exist"),
        ("cow", "regular expression with a group"),
        (r"(cow)\.", "for 5 of 5"),
        ([1, 2], "one label for each of the 5 images"),
        (dict.fromkeys(FLAT, 0.5), "a real number"),
        ({"cat.0.jpg": "a", "no.jpg": "b"}, "file is not there, such as 'no.jpg'"),
        ({"cat.0.jpg": "a", "cat.1.jpg": None}, "rows without a label, such as 'cat.1.jpg'"),
    ],
)
def test_labels_that_fit_no_file_are_refused(tree, labels, message):
    with pytest.raises(ValueError, match=message):
        load(tree(FLAT), labels=labels)


def test_images_with_masks_are_segmentation(tree):
    root = tree([f"images/{i}.jpg" for i in range(4)])
    (root / "masks").mkdir()
    masks = random.integers(0, 2, (4, 8, 8)).astype("uint8")
    for number, mask in enumerate(masks):
        Image.fromarray(mask * 255).save(root / "masks" / f"{number}_mask.png")
    train, validation, info = load(root, validation=0.25)
    assert info.task == "segmentation" and info.class_names == ("0", "1") and len(validation) == 1
    assert train.element_spec[1].shape == (8, 8)
    seen = sorted(
        mask.astype("uint8").tobytes() for part in (train, validation) for _, mask in part.as_numpy_iterator()
    )
    assert seen == sorted(mask.tobytes() for mask in masks)


def test_masks_without_their_images_are_not_classes(tree):
    with pytest.raises(ValueError, match="looks like segmentation"):
        load(tree(["images/1.png", "masks/2.png"]))


@pytest.mark.parametrize("balance, expected", [("classes", [22, 22, 22]), ("sqrt", [42, 18, 6])])
def test_balance_draws_classes_by_their_shares(tree, balance, expected):
    root = tree([f"{c}/{i}.png" for c, n in (("a", 54), ("b", 10), ("c", 2)) for i in range(n)])

    def epochs():
        train = load(root, validation=0, balance=balance)[0]
        return [[(int(y), x.tobytes()) for x, y in train.as_numpy_iterator()] for _ in range(2)]

    first, second = epochs()
    if balance == "sqrt":
        roots = np.sqrt([54, 10, 2])
        expected = 66 * roots / roots.sum()
    assert np.abs(np.bincount([y for y, _ in first]) - expected).max() < 1
    assert first != second and [first, second] == epochs()


def test_folders_of_one_image_a_side_long_load(tree):
    root = tree(["a/1.png", "b/2.png"])
    Image.new("RGB", (1, 1), "red").save(root / "a/1.png")
    Image.new("RGB", (3000, 3), "blue").save(root / "b/2.png")
    assert len(list(load(root, 8, validation=0)[0])) == 2


@pytest.mark.parametrize(
    "files, counts",
    [
        (
            ["seg_train/seg_train/{}", "seg_test/seg_test/{}", "seg_pred/seg_pred/9.png"],
            {"train": 4, "validation": 0},
        ),
        (["training_set/{}", "test_set/{}"], {"train": 4, "validation": 0}),
        (["train/{}", "val/{}", "extra/{}"], {"train": 4, "validation": 4}),
        (["train/{}", "val/{}", "test/test/9.png"], {"train": 4, "validation": 4}),
        (["some/archive/train/{}", "some/archive/valid/{}"], {"train": 4, "validation": 4}),
    ],
)
def test_parts_under_other_names_are_no_classes(tree, capsys, files, counts):
    inside = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(2)]
    root = tree([pattern.format(file) for pattern in files for file in (inside if "{}" in pattern else [""])])
    train, validation, info = load(root, validation=0 if counts["validation"] == 0 else 0.1)
    assert info.class_names == ("cat", "dog") and info.counts == counts
    left_out = [word for word in ("seg_pred", "extra", "test/test") if any(word in file for file in files)]
    assert all(word in capsys.readouterr().out for word in left_out)


@pytest.mark.parametrize(
    "files, message",
    [
        (["val/a/1.png", "test/b/1.png"], "a folder of training images beside 'test', 'val'"),
        (["train_images/1.png", "test_images/1.png"], "class folders inside 'test_images', 'train_images'"),
        (["images/1.png", "labels/1.txt"], "detection is not covered"),
        (
            ["train/images/1.png", "train/labels/1.txt", "val/images/1.png", "val/labels/1.txt"],
            "detection is not covered",
        ),
        (["images/train/1.png", "labels/train/1.txt"], "detection is not covered"),
        (["Images/a/1.png", "Images/b/1.png", "Annotation/a/1.xml"], "in Images/ are classes, load that"),
    ],
)
def test_folders_that_only_look_like_classes_are_refused(tree, files, message):
    with pytest.raises(ValueError, match=message):
        load(tree(files))


def test_parts_may_lie_inside_images_with_masks(tree):
    root = tree(
        [f"{kind}/{part}/{n}.png" for kind in ("images", "masks") for part, n in (("train", 1), ("val", 2))]
    )
    for file in root.glob("masks/*/*.png"):
        Image.new("L", (8, 8), 1).save(file)
    assert load(root)[2].counts == {"train": 1, "validation": 1}


def test_photos_beside_the_classes_are_mentioned(tree):
    assert "'stray.png'" in load(tree(["a/1.png", "b/1.png", "stray.png"]), validation=0)[2].notes[0]


def test_files_that_pillow_refuses_are_named(tree):
    root = tree(["a/1.png", "b/1.png"])
    Image.fromarray(random.random((8, 8)).astype("float32")).save(root / "a/float.tif")
    with pytest.raises(ValueError, match=r"float\.tif: Holds floats"):
        load(root, 8, validation=0)
    assert "Holds floats" in load(root, 8, validation=0, on_error="skip")[2].skipped[0]
