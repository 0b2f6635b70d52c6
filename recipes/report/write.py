"""write_report: a run as one HTML page that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from recipes.common.color import class_colors
from recipes.common.files import write_text
from recipes.common.optional import optional
from recipes.common.types import Data
from recipes.report.example_images import predictions
from recipes.report.mask_examples import mask_predictions, painted

_MOST_CLASSES = 20  # of a confusion matrix that fits on a phone
# Which figure shows the evidence of a finding.
_SHOWN_BY = {
    "update_ratios": (
        "rate_too_high",
        "rate_too_low",
        "clipping_too_hard",
        "update_ratio_high",
        "update_ratio_low",
    ),
    "gradients": ("vanishing", "exploding", "initial_scale_too_large", "initial_scale_too_small", "frozen"),
    "units": ("dead_relu", "dead_at_start", "zero_initialization"),
    "activations": ("saturated", "unscaled_inputs"),
    "finite": ("nan_source", "nan_input"),
}


def write_report(
    run: Any,
    path: str | PathLike[str],
    *,
    validation: Data | None = None,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
    examples: int = 6,
) -> Path:
    """Write everything known about a run into one HTML file: no other file, no network, no script.

    The verdict comes first, then findings with the figure that shows their evidence, curves, what the monitors saw,
    the confusion matrix, right and wrong predictions with their Grad-CAM, settings and versions. Readable on a
    phone, printed, in light and dark; figures have descriptions. Everything that comes from the run is escaped.

    Args:
        run: What `recipes.train` returned, or anything with `model`, `history`, `findings`, `record`, `settings`.
        path: File to write.
        validation: Held-out data, a `tf.data.Dataset` or arrays of `(inputs, labels)`, for the confusion
            matrix and the examples; None leaves both out.
        class_names: Name of every class; None numbers them.
        title: Heading; None takes the model's name.
        examples: Right and wrong predictions to show, each.

    Returns:
        The `pathlib.Path` written.

    Raises:
        ImportError: without Jinja2, the extra "report".
    """
    environment = _environment()
    seen = predictions(run.model, validation, count=examples) if validation is not None else None
    masks = mask_predictions(run.model, validation, count=examples) if validation is not None else None
    figures = _figures(run)
    context = {
        "title": title or (run.model.name if run.model is not None else "run"),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "verdict": _verdict(run),
        "numbers": _numbers(run, seen),
        "findings": [_finding(finding, figures) for finding in run.findings],
        "skipped": list(_before(run).get("skipped", ())),
        "tried": list(_before(run).get("tried", ())),
        "figures": figures,
        "layers": _layers(run.record),
        "confusion": _confusion(seen, class_names),
        "right": _pictures(seen.right if seen else (), class_names),
        "wrong": _pictures(seen.wrong if seen else (), class_names),
        "note": seen.note if seen else "",
        "masks": _masks(masks, class_names),
        "settings": _settings(run.settings),
        "versions": (run.settings or {}).get("versions", {}),
        "notes": list(run.record.notes) if run.record is not None else [],
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, environment.get_template("page.html.jinja").render(context))
    return path


def _environment():
    jinja2 = optional("recipes.report", "jinja2", "Jinja2", "report")
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


def _verdict(run):
    counts = {
        severity: sum(f.severity == severity for f in run.findings) for severity in ("error", "warning")
    }
    if counts["error"]:
        return {"kind": "error", "text": f"This run cannot work as it is: {run.findings[0].title}."}
    if counts["warning"]:
        return {"kind": "warning", "text": f"This run could do better: {run.findings[0].title}."}
    skipped = _before(run).get("skipped", ())
    if skipped:
        # What was not looked at is not fine.
        names = ", ".join(skipped)
        text = f"Nothing wrong was found by what was checked. Not checked, for want of time: {names}."
        return {"kind": "warning", "text": text}
    if run.record is None and not run.findings:
        return {"kind": "ok", "text": "No findings. Nothing looked inside the training steps."}
    return {"kind": "ok", "text": "Nothing wrong was found."}


def _before(run):
    """What was looked at before training: names of skipped checks, remedies that were tried."""
    return (run.settings or {}).get("before_training") or {}


def _numbers(run, seen):
    history, rows = run.history or {}, []
    for name in ("val_accuracy", "accuracy", "val_iou", "iou", "val_loss", "loss"):
        values = np.asarray(history.get(name, ()), "float64")
        if values.size:
            share = "accuracy" in name or "iou" in name
            best = np.nanmax(values) if share and np.isfinite(values).any() else None
            shown = f"{values[-1]:.2%}" if share else f"{values[-1]:.4g}"
            rows.append((_words(name), shown, f"best {best:.2%}" if best is not None else ""))
    if "loss" in history:
        rows.append(("epochs", str(len(history["loss"])), ""))
    if run.model is not None:
        rows.append(("parameters", f"{run.model.count_params():,}", ""))
    if seen is not None:
        rows.append(("held-out examples looked at", f"{len(seen.labels):,}", ""))
    return rows


def _words(name):
    return name.replace("val_", "validation ").replace("_", " ")


def _figures(run):
    """dict from a key to `{"title", "svg"}`: what there is to draw of this run, and nothing else."""
    from recipes import plot  # noqa: PLC0415 - brings matplotlib

    made, record = {}, run.record
    if run.history and "loss" in run.history:
        epochs = len(run.history["loss"])
        last = ", ".join(f"{_words(name)} {values[-1]:.4g}" for name, values in run.history.items())
        _add(
            made,
            "curves",
            "Curves",
            plot.curves,
            run.history,
            f"Curves over {epochs} epochs; at the end: {last}.",
        )
    if record is None or not len(record):
        return made
    measured = set(record.measured)
    if "update_norm" in measured:
        ratios = _last_finite(record.update_ratio)
        text = f"Update ratio of each kernel over the steps; the median at the last probe is {ratios:.2g}."
        _add(made, "update_ratios", "Update ratios", plot.update_ratios, record, text)
    if "gradient_norm" in measured:
        _add(
            made,
            "gradients",
            "Gradients by depth",
            plot.gradient_flow,
            record,
            "Size of the gradients by depth.",
        )
    kinds = set(record.axes["activations"].get("kind", ()))
    if "mean" in measured and kinds & {"relu", "leaky_relu"}:
        _add(
            made,
            "units",
            "Dead units",
            plot.unit_activity,
            record,
            "How often each rectified unit is active.",
            png=True,
        )
    if "mean" in measured:
        text = "Mean, spread, share of zeros and of saturated outputs of each activation."
        _add(made, "activations", "Activations", plot.activation_statistics, record, text)
    if "output_finite" in measured and not record.output_finite.all():
        _add(
            made,
            "finite",
            "Where numbers were not finite",
            plot.finite_layers,
            record,
            "Layers with NaN by step.",
        )
    return made


def _add(made, key, title, draw, data, description, png=False):
    from recipes.plot.inline import to_data_url, to_svg  # noqa: PLC0415 - brings matplotlib

    figure = draw(data)
    entry = {"title": title, "description": description, "svg": None, "png": None}
    # Pixel maps of many units are smaller as pixels.
    entry["png" if png else "svg"] = to_data_url(figure, dpi=90) if png else to_svg(figure, description)
    made[key] = entry


def _last_finite(rows):
    values = rows[-1][np.isfinite(rows[-1])]
    return float(np.median(values)) if values.size else float("nan")


def _finding(finding, figures):
    key = next((key for key, codes in _SHOWN_BY.items() if finding.code in codes), "curves")
    return {
        "finding": finding,
        "place": _place(finding),
        "figure": key if key in figures else None,
        "consequences": [(f, _place(f)) for f in finding.consequences],
    }


def _place(finding):
    words = [f"layer {finding.layer}"] if finding.layer else []
    if finding.epoch is not None:
        words.append("before training" if finding.epoch == 0 else f"epoch {finding.epoch}")
    return ", ".join(words)


def _layers(record):
    """Rows of the table of kernels: layer, update ratio, gradient, dead units."""
    if record is None or not len(record) or not {"update_norm", "gradient_norm"} <= set(record.measured):
        return []
    axis, rows = record.axes["variables"], []
    factors = axis.get("factor", np.ones(len(axis["role"])))
    shown = bool(np.any(np.asarray(factors) != 1))
    with np.errstate(all="ignore"):
        for index in np.flatnonzero(axis["role"] == "kernel"):
            ratios, gradients = record.update_ratio[:, index], record.gradient_norm[:, index]
            rows.append(
                {
                    "layer": str(axis["layer"][index]),
                    "size": f"{int(axis['size'][index]):,}",
                    "factor": f"{factors[index]:.3g}" if shown else "",
                    "ratio": _typical(ratios),
                    "gradient": _typical(gradients),
                }
            )
    return rows


def _typical(values):
    values = values[np.isfinite(values)]
    return f"{np.median(values):.2g}" if values.size else "not measured"


def _confusion(seen, class_names):
    if seen is None:
        return None
    names = [_class(number, class_names) for number in range(seen.classes)]
    wrong = seen.labels != seen.predicted
    # Counted as a list: a matrix of 10,000 classes does not fit into memory.
    cells, times = np.unique(seen.labels[wrong] * seen.classes + seen.predicted[wrong], return_counts=True)
    pairs = [
        (names[cells[i] // seen.classes], names[cells[i] % seen.classes], int(times[i]))
        for i in np.argsort(-times, kind="stable")[:10]
    ]
    table = None
    if seen.classes <= _MOST_CLASSES:
        counts = seen.confusion()
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        table = [
            (
                names[row],
                [
                    (int(counts[row, column]), round(float(share[row, column]), 3), row == column)
                    for column in range(len(counts))
                ],
                f"{share[row, row]:.0%}" if counts[row].sum() else "none",
            )
            for row in range(len(counts))
        ]
    return {
        "names": names,
        "table": table,
        "pairs": pairs,
        "right": int(np.sum(~wrong)),
        "all": len(seen.labels),
    }


def _class(number, class_names):
    return str(class_names[number]) if class_names is not None and number < len(class_names) else str(number)


def _pictures(examples, class_names):
    from recipes.plot.inline import image_data_url  # noqa: PLC0415 - brings matplotlib
    from recipes.plot.overlay import blend  # noqa: PLC0415 - brings matplotlib

    pictures = []
    for example in examples:
        label, predicted = _class(example.label, class_names), _class(example.predicted, class_names)
        shown = image_data_url(example.image)
        mapped = None if example.map is None else image_data_url(blend(example.image, example.map))
        is_right = example.label == example.predicted
        pictures.append(
            {
                "image": shown,
                "map": mapped,
                "caption": f"{predicted}, {example.confidence:.0%}" + ("" if is_right else f"; is {label}"),
                "alt": f"An image of class {label}, predicted {predicted} with {example.confidence:.0%}",
            }
        )
    return pictures


def _masks(seen, class_names):
    """What the page says of a segmentation, or None."""
    if seen is None:
        return None
    from recipes.plot.canvas import displayable  # noqa: PLC0415 - brings matplotlib
    from recipes.plot.inline import image_data_url  # noqa: PLC0415 - brings matplotlib

    def pictures(examples):
        made = []
        for example in examples:
            image = np.rint(255 * displayable(example.image, "report")).astype(np.uint8)
            image = image.reshape(*image.shape[:2], -1)
            image = image if image.shape[-1] == 3 else image[..., :1].repeat(3, -1)
            parts = [
                ("the image", image),
                ("the given mask over it", painted(image, example.given)),
                ("the predicted mask over it", painted(image, example.predicted)),
            ]
            made.append(
                {
                    "parts": [(image_data_url(part), alt) for alt, part in parts],
                    "caption": f"IoU {example.iou:.0%}",
                }
            )
        return made

    colors = class_colors(256)
    pixels = seen.confusion.sum(1)
    rows = [
        {
            "name": _class(number, class_names),
            "color": "#{:02x}{:02x}{:02x}".format(*colors[number % 256]),
            "iou": "never occurs" if np.isnan(seen.iou[number]) else f"{seen.iou[number]:.1%}",
            "share": f"{pixels[number] / max(1, pixels.sum()):.1%}",
        }
        for number in range(len(seen.iou))
    ]
    return {
        "rows": rows,
        "mean": f"{np.nanmean(seen.iou):.1%}",
        "right": f"{np.trace(seen.confusion) / max(1, seen.confusion.sum()):.1%}",
        "count": seen.count,
        "groups": [("Worst masks", pictures(seen.worst)), ("Best masks", pictures(seen.best))],
    }


def _settings(settings):
    return [
        (name.replace("_", " "), _plain(value))
        for name, value in (settings or {}).items()
        if name not in ("versions", "before_training") and value is not None
    ]


def _plain(value):
    if isinstance(value, (list, tuple)):
        rest = f" and {len(value) - _MOST_CLASSES} more" if len(value) > _MOST_CLASSES else ""
        return ", ".join(_plain(entry) for entry in value[:_MOST_CLASSES]) + rest or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(entry)}" for name, entry in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
