"""Rules about batches as the probes saw them: size, class order, batch normalization, unreached kernels and noise."""

from typing import Any

import numpy as np

from recipes.diagnose.finding import Finding
from recipes.diagnose.rules.words import counted, part_of


def found(
    code: str, severity: str, layer: str | None, epoch: int | None, evidence: str, remedy: str
) -> Finding:
    """Make a `Finding` that counts epochs from 1.

    Args:
        code: A code from `recipes.diagnose.finding`.
        severity: "error", "warning" or "info".
        layer: Name of the layer, or None.
        epoch: Epoch, counted from 0, or None.
        evidence: What was seen, with numbers.
        remedy: What to do about it.

    Returns:
        The `Finding`, with the epoch counted from 1.
    """
    return Finding(code, severity, layer, None if epoch is None else int(epoch) + 1, evidence, remedy)


def too_few(view: Any) -> list[Finding]:
    """Batches of one to three examples before batch normalization of vectors, which removes their differences.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    norms = [layer for layer in view.facts.get("layers", ()) if layer.get("normalizes_vectors")]
    sizes = view.record.examples
    sizes = sizes[np.isfinite(sizes)]
    if not norms or not len(sizes) or np.median(sizes) > 3 or (np.median(sizes) > 1 and view.learned):
        return []
    size = int(np.median(sizes))
    left = (
        "0 is left of every input"
        if size == 1
        else "little is left of an example but whether it is above that mean"
    )
    return [
        found(
            "batch_too_small",
            "error" if size == 1 else "warning",
            norms[0]["name"],
            view.epoch[0],
            f"Batches hold {counted(size, 'example')}, and {norms[0]['name']} subtracts the mean "
            f"of the batch: {left}, so the layers behind it have nothing to learn from.",
            "Use batches of 32: model.fit(..., batch_size=32); or keras.layers.LayerNormalization() in its place.",
        )
    ]


def sorted_batches(view: Any) -> list[Finding]:
    """Batches of a single class, in data with several classes: the data comes sorted.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    counts = list(view.facts.get("data", {}).get("train", {}).get("class_counts", {}).values())
    looked = np.isfinite(view.record.one_label) & (view.record.examples >= 8)
    if looked.sum() < 3 or len(counts) < 2:
        return []
    size = float(np.median(view.record.examples[looked]))
    chance = sum((count / sum(counts)) ** size for count in counts)
    alone = float(np.mean(view.record.one_label[looked] == 1))
    data = view.facts["data"]["train"]
    # In shuffled data with several classes, hardly any large batch holds a single class.
    sorted_too = data.get("same_next", 0.0) > 0.5 * (1 + data.get("same_by_chance", 1.0))
    few = alone > 0 and chance * looked.sum() < 1e-3 and sorted_too
    if chance > 0.05 or not (alone >= 0.5 or few):
        return []
    return [
        found(
            "missing_shuffle",
            "warning",
            None,
            view.epoch[0],
            f"{alone:.0%} of the {int(looked.sum())} batches of {size:.0f} that were looked at hold one class alone, "
            f"of the {len(counts)} in the data. The data comes sorted, so each step unlearns the classes of the steps "
            "before.",
            "Shuffle: model.fit(..., shuffle=True) for arrays, dataset.shuffle(number_of_examples).batch(32) for a "
            "data set.",
        )
    ]


def idle_averages(view: Any) -> list[Finding]:
    """Batch normalization layers whose moving averages are never updated.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    idle = view.facts.get("idle_averages", ())
    if not idle or view.step[-1] < 10:
        return []
    return [
        found(
            "batch_norm_statistics",
            "warning",
            idle[0],
            None,
            f"After {int(view.step[-1]) + 1} steps the averages of {idle[0]} are still exactly 0 and 1: it runs in "
            "inference mode, and normalizes by numbers that are not those of the data.",
            "Do not call it with training=False, and set trainable=True.",
        )
    ]


def unreached(view: Any) -> list[Finding]:
    """Kernels that no step changes, while steps change others.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    if view.count < 3 or len(view.kernels) < 2:
        return []
    ratio = view.ratio[:, view.kernels]
    still = (np.nan_to_num(ratio) == 0).all(axis=0) & (view.weight[0, view.kernels] > 1e-6)
    if not still.any() or not (np.nan_to_num(ratio) > 0).any():
        return []
    names = [view.layer(column) for column in view.kernels[still]]
    return [
        found(
            "vanishing",
            "warning",
            names[0],
            view.epoch[0],
            f"No step that was looked at changes the kernel of {names[0]}"
            f"{f' and of {len(names) - 1} more' if len(names) > 1 else ''}, while those of other layers move: no "
            "gradient reaches it.",
            "Look behind it for stop_gradient, rounding or argmax, units that are always 0, or an output that nothing "
            "uses; where it is meant to stay, set layer.trainable = False.",
        )
    ]


def noisy_batches(view: Any) -> list[Finding]:
    """Batches so small that the loss of one says little about the model.

    Args:
        view: A `recipes.diagnose.rules.record_view.RecordView`.

    Returns:
        A list of `Finding`, empty where the rule does not apply.
    """
    data = view.facts.get("data", {}).get("train", {})
    if view.count < 5 or (data.get("batch") or 64) > 4:
        return []
    tail = view.loss[view.count // 2 :]
    if not np.isfinite(tail).all():
        return []
    if tail.min() <= 0:  # the mean of a loss that crosses 0 is no measure of its size
        return []
    noise = float(np.std(tail) / np.mean(tail))
    if noise < 0.4:
        return []
    return [
        found(
            "batch_too_small",
            "warning",
            None,
            None,
            f"Batches hold {counted(data['batch'], 'example')}, and their losses differ by "
            f"{part_of(noise, 'their mean')}: each step follows the accident of its batch.",
            "Use batches of 32 or more; batch normalization needs at least 8.",
        )
    ]


#: Each rule takes a `RecordView` and returns a list of `Finding`.
RULES = (too_few, sorted_batches, idle_averages, unreached, noisy_batches)
