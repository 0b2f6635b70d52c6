"""Tables of labels as competitions have them: which column says what."""

import pytest

from recipes import data


def load(*arguments, **options):
    return data.load(*arguments, verbose=0, **options)


@pytest.mark.parametrize("header", ["id,breed", "id,label,is_valid"])
def test_tables_of_competitions_find_their_files(tree, header):
    root = tree([f"{number:04d}.png" for number in range(8)])
    rows = [(f"{number}", "ab"[number % 2], f"{number > 5}") for number in range(8)]
    rows = [",".join(row[: len(header.split(","))]) for row in rows]
    (root / "train.csv").write_text("\n".join([header, *rows]))
    _, validation, info = load(root, labels="train.csv", validation=0.25)
    assert info.class_names == ("a", "b") and info.counts == {"train": 6, "validation": 2}
    if "is_valid" in header:
        assert sorted(file[-8:] for file in info.files["validation"]) == ["0006.png", "0007.png"]


@pytest.mark.parametrize(
    "column, cells, names",
    [
        (
            "label",
            ["black cat", "black dog", "white cat", "dog"],
            ("black cat", "black dog", "dog", "white cat"),
        ),
        (
            "labels",
            ["black cat", "black dog", "white cat", "dog"],
            ("black cat", "black dog", "dog", "white cat"),
        ),
        ("labels", ["a b", "b", "a", "c a"], ("a", "b", "c")),
        ("tags", ["haze a", "haze b", "b", "haze"], ("a", "b", "haze")),
        ("label", ["['a', 'b']", "['a']", "['b']", "[]"], ("a", "b")),
        ("label", ["a, b", "b", "a", "c"], ("a", "b", "c")),
    ],
)
def test_cells_of_several_labels_are_told_from_names_with_spaces(tree, column, cells, names):
    root = tree([f"{number}.png" for number in range(4)])
    rows = "".join(f'{number}.png,"{cell}"\n' for number, cell in enumerate(cells))
    (root / "labels.csv").write_text(f"file,{column}\n{rows}")
    info = load(root, labels="labels.csv", validation=0)[2]
    assert info.class_names == names
    assert (info.task == "multi_label") == (len(names) < 4)
    divided = info.task == "multi_label" and "[" not in cells[0]
    assert [cells[0] in note for note in info.notes] == ([True] if divided else [])


@pytest.mark.parametrize("minus", ["0", "-1"])
def test_columns_name_the_classes_in_their_order(tree, minus):
    root = tree(["1.png", "2.png", "3.png"])
    (root / "l.csv").write_text(
        f"file,red,dark,never\n1,1,1,{minus}\n2,{minus},1,{minus}\n3,1,{minus},{minus}\n"
    )
    train, _, info = load(root, labels="l.csv", validation=0)
    assert info.class_names == ("red", "dark", "never")
    assert sorted(label.tolist() for _, label in train.as_numpy_iterator()) == [
        [0, 1, 0],
        [1, 0, 0],
        [1, 1, 0],
    ]


def test_a_column_is_told_by_name(tree):
    root = tree([f"{number}.png" for number in range(4)])
    (root / "l.csv").write_text(
        "file,lesion,dx,sex\n" + "".join(f"{n},{n},{'ab'[n % 2]},{n // 2}\n" for n in range(4))
    )
    with pytest.raises(ValueError, match=r"labels=\(table, column\)"):
        load(root, labels="l.csv")
    assert load(root, labels=("l.csv", "dx"), validation=0)[2].class_names == ("a", "b")
    with pytest.raises(ValueError, match="Received 'dy'"):
        load(root, labels=("l.csv", "dy"))


def test_a_part_that_nobody_knows_is_not_trained_on(tree):
    root = tree([f"{number}.png" for number in range(4)])
    for words, message in ((["train", "holdout"], "Received other words, 'holdout'"), (["0", "1"], None)):
        (root / "l.csv").write_text(
            "file,label,split\n" + "".join(f"{n},{'ab'[n % 2]},{words[n // 2]}\n" for n in range(4))
        )
        if message:
            with pytest.raises(ValueError, match=message):
                load(root, labels="l.csv")
        else:
            assert "'split' is not used" in load(root, labels="l.csv", validation=0)[2].notes[0]


def test_quantities_in_a_table_are_no_classes(tree):
    root = tree(["1.png", "2.png", "3.png"])
    (root / "ages.csv").write_text("file,age\n1.png,3.5\n2.png,4.0\n3.png,7.25\n")
    with pytest.raises(ValueError, match="Regression is not covered"):
        load(root, labels="ages.csv")
    (root / "ages.csv").write_text("file,age\n1.png,3.0\n2.png,4.0\n3.png,\n")
    assert load(root, labels="ages.csv", validation=0, on_error="skip")[2].class_names == ("3", "4")
