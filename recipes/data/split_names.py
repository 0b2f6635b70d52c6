"""The names of folders, and words in a table, that stand for a part of the data."""

import re

NAMES_OF_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

_WORDS = re.compile(r"[^a-z]+")
# Folders beside the parts, whose images have no labels.
_UNLABELED = frozenset(("pred", "prediction", "predict", "unlabeled", "unlabelled", "unsup", "extra"))


def part_of(name: str) -> str | None:
    """ "train", "validation" or "test" for a name that is such a word, or has one among its words, as `seg_train`."""
    exact = NAMES_OF_PARTS.get(name.lower())
    if exact:
        return exact
    found = {NAMES_OF_PARTS[word] for word in _WORDS.split(name.lower()) if word in NAMES_OF_PARTS}
    return found.pop() if len(found) == 1 else None


def is_unlabeled(name: str) -> bool:
    """Whether a folder beside the parts has a name for images without labels: `seg_pred`, `unlabeled`."""
    return any(word in _UNLABELED for word in _WORDS.split(name.lower()))
