"""What a run says in a line or two of its changes with `resume="force"`; run.json has them in full."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SHOWN = 3  # names of layers or variables, and entries of one setting
_LONGEST = 60  # characters of a value
_CHECKSUM = re.compile(r"[0-9a-f]{32}")
_DATA = {"train_data": "training", "validation_data": "validation"}


def in_short(changes: Sequence[str]) -> str:
    """The changes of a run with its layers counted, without checksums, and with long values cut.

    Args:
        changes: What `RunFolder.compare` returned, such as "seed: 0, now 3".
    """
    by_setting: dict[str, list[str]] = {}
    for words in changes:
        by_setting.setdefault(re.split(r"[ :]", words, maxsplit=1)[0], []).append(words)
    said = []
    for setting, entries in by_setting.items():
        if setting == "architecture":
            said.append(_layers(entries))
        elif setting in _DATA:
            said.append(_data(_DATA[setting], entries))
        else:
            said += [_cut(words) for words in entries[:_SHOWN]]
            said += [f"{len(entries) - _SHOWN} more of {setting}"] if len(entries) > _SHOWN else []
    full = "; run.json has all changes in full" if said != list(changes) else ""
    return "; ".join(said) + full


def _layers(entries):
    pairs = [words.partition(": ")[2].partition(", now ")[::2] for words in entries]
    before, now = (
        list(dict.fromkeys(line.partition(": ")[0] for line in side)) for side in zip(*pairs, strict=True)
    )
    if before == ["in one order"]:
        return "the layers are in another order"
    gone, new = ([name for name in side if name != "missing"] for side in (before, now))
    both = [name for name in gone if name in new]
    kinds = {
        "changed": both,
        "gone": [x for x in gone if x not in both],
        "new": [x for x in new if x not in both],
    }
    told = [f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names]
    return f"layers: {', '.join(told)}"


def _data(part, entries):
    told = [_cut(words) for words in entries if not _CHECKSUM.search(words)]
    return f"the {part} examples or their order are others{f' ({_first(told)})' if told else ''}"


def begins_anew(missing: Sequence[str]) -> str:
    """How many variables begin anew because a backup does not hold them, and how many of the backup's are left out.

    Args:
        missing: What `restore_variables` returned.
    """
    anew: dict[str, list[str]] = {}
    left: dict[str, list[str]] = {}
    for words in missing:
        kind, _, path = words.split(" ", 3)[:3]
        (left if words.endswith("only in the backup") else anew).setdefault(kind, []).append(path)
    told = []
    if anew:
        named = f" ({_first(anew['model'])})" if "model" in anew else ""
        told.append(f"{_counted(anew, named)} begin anew, as the backup does not hold them in this shape")
    if left:
        told.append(f"{_counted(left)} are only in the backup, and left out")
    return "; ".join(told)


def _counted(by_kind, named=""):
    parts = [
        f"{len(paths)} variables of the {kind}{named * (kind == 'model')}" for kind, paths in by_kind.items()
    ]
    return " and ".join(parts)


def _cut(words):
    name, _, values = words.partition(": ")
    sides = [
        side if len(side) <= _LONGEST else f"{side[:_LONGEST]}..." for side in values.partition(", now ")[::2]
    ]
    return f"{name}: {', now '.join(sides)}"


def _first(names):
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
