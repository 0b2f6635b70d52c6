"""write_report: a run as one HTML page that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.common.color import class_colors
from recipes.common.datasets import files_of
from recipes.common.files import write_text
from recipes.common.optional import optional
from recipes.common.shell_words import in_shell_lines
from recipes.common.types import Data
from recipes.report.data_issues import data_issues
from recipes.report.example_images import predictions
from recipes.report.figures import SHOWN_BY, figures_of, read_ratios, too_few_looks
from recipes.report.mask_examples import mask_predictions, painted
from recipes.report.summary import (
    before_training,
    check_command,
    how_good,
    in_shell,
    no_better_than,
    numbers,
    verdict,
    what_to_do,
)
from recipes.report.tables import class_name, confusion_of, layers_of, settings_of
from recipes.report.time_spent import time_spent

if TYPE_CHECKING:
    from recipes.diagnose.images.near_duplicates import Duplicates
    from recipes.diagnose.speed.throughput import Throughput


def write_report(
    run: Any,
    path: str | PathLike[str],
    *,
    validation: Data | None = None,
    train: Data | None = None,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
    examples: int = 6,
    throughput: Throughput | None = None,
    files: Mapping[str, Sequence[str]] | None = None,
    duplicates: Duplicates | None = None,
) -> Path:
    """Write everything known about a run into one HTML file: no other file, no network, no script.

    Three sentences come first: how good, what is wrong, what to do. Then come the findings with the figure that shows
    their evidence, the curves, and what the monitors saw, each figure with a sentence on how to read it. Scores by
    class, calibration, right and wrong predictions with their Grad-CAM, labels and images in doubt, settings and
    versions follow. The page is readable on a phone, in print, in light and dark mode; figures have descriptions for
    screen readers. Everything that comes from the run is escaped.

    Args:
        run: What `recipes.train` returned, or anything with `model`, `history`, `findings`, `record`, `settings`.
        path: File to write.
        validation: Held-out data, a `tf.data.Dataset` or arrays of `(inputs, labels)`, for the confusion
            matrix and the examples; None leaves both out.
        train: Training data, for thumbnails of doubtful labels (`diagnose.label_issues`), copies
            (`diagnose.near_duplicates`) and faulty images (`diagnose.image_issues`) among its first 2000 images; None
            lists only doubtful labels.
        duplicates: What `diagnose.near_duplicates(train, validation)` found; None looks here.
        class_names: Name of every class; None numbers them.
        title: Heading; None takes the model's name.
        examples: Number of right and number of wrong predictions to show.
        throughput: What `diagnose.throughput` measured, for a figure of where a step's time goes and what would help;
            None shows only what the run itself recorded about its epochs.
        files: Path of each example of "train" and "validation", as `info.files` of `recipes.data.load`: doubtful
            labels, copies and faults are then named by their files, else by their numbers.

    Returns:
        The `pathlib.Path` written.

    Raises:
        ImportError: without Jinja2, the extra "report".
        TypeError: when `throughput` is not such a measurement.
    """
    environment = _environment()
    seen = predictions(run.model, validation, count=examples) if validation is not None else None
    masks = mask_predictions(run.model, validation, count=examples) if validation is not None else None
    figures = figures_of(run, seen)
    current = [finding for finding in run.findings if not finding.withdrawn]
    findings = _findings(current, figures)
    issues = data_issues(
        run,
        train,
        validation,
        class_names=class_names,
        count=2 * examples,
        files=files,
        duplicates=duplicates,
        guesses=no_better_than(seen) is not None,
    )
    leaks = issues and issues["leaks"]
    names = (files or {}).get("validation") or files_of(validation)
    context = {
        "say": in_shell_lines if in_shell(run) else str,
        "title": title or (run.model.name if run.model is not None else "run"),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "verdict": verdict(
            run, seen, class_names, leaks, issues["doubted"] if issues else 0, validation is not None
        ),
        "summary": [text for text in (how_good(run, seen), what_to_do(run, seen, leaks)) if text],
        "numbers": numbers(run, seen, leaks),
        "findings": findings,
        "withdrawn": [_taken_back(finding) for finding in run.findings if finding.withdrawn],
        "with_findings": {entry["figure"] for entry in findings},
        "skipped": list(before_training(run).get("skipped", ())),
        "enough_seconds": before_training(run).get("enough_seconds") or 60,
        "check_command": check_command(run.settings, before_training(run).get("enough_seconds") or 60),
        "tried": list(before_training(run).get("tried", ())),
        "figures": figures,
        "too_few_looks": too_few_looks(run),
        "read_ratios": read_ratios(run),
        "first_figures": ("curves", "reliability"),  # what goes on in the layers comes last
        "time": time_spent(run, throughput),
        "layers": layers_of(run.record),
        "confusion": confusion_of(seen, class_names),
        "right": _pictures(seen.right if seen else (), class_names, names),
        "wrong": _pictures(seen.wrong if seen else (), class_names, names),
        "note": seen.note if seen else "",
        "masks": _masks(masks, class_names),
        "issues": issues,
        "settings": settings_of(run.settings),
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


def _findings(findings, figures):
    """Errors and warnings with the figure that shows them; a figure stands only with the first of its findings."""
    entries, left = [], set(figures)
    for finding in findings:
        key = next((key for key, codes in SHOWN_BY.items() if finding.code in codes), "curves")
        shown = key if key in left and finding.severity != "info" else None
        left.discard(shown)
        consequences = [(one, _place(one)) for one in finding.consequences]
        entries.append(
            {"finding": finding, "place": _place(finding), "figure": shown, "consequences": consequences}
        )
    return entries


def _taken_back(finding):
    """A withdrawn finding in a line, without its evidence and its advice, which hold no longer."""
    where = f" (layer {finding.layer})" if finding.layer else ""
    said = f"after epoch {finding.said_after}" if finding.said_after else "before training"
    return {"title": f"{finding.title}{where}", "said": f"said {said}, no longer true at the end"}


def _place(finding):
    words = [f"layer {finding.layer}"] if finding.layer else []
    if finding.epoch is not None:
        words.append("before training" if finding.epoch == 0 else f"epoch {finding.epoch}")
    return ", ".join(words)


def _pictures(examples, class_names, files):
    from recipes.plot.inline import image_data_url  # noqa: PLC0415 - brings matplotlib
    from recipes.plot.overlay import blend  # noqa: PLC0415 - brings matplotlib

    pictures = []
    for example in examples:
        label, predicted = class_name(example.label, class_names), class_name(example.predicted, class_names)
        maps = [
            (
                image_data_url(blend(example.image, map_)),
                f"Grad-CAM of {name} over the same image{_blank(map_)}",
            )
            for map_, name in ((example.map, predicted), (example.truth_map, label))
            if map_ is not None
        ]
        is_right = example.label == example.predicted
        named = ((example.map, predicted), (example.truth_map, label))
        blank = "".join(
            f"; the map of {name} is blank" for map_, name in named if map_ is not None and _blank(map_)
        )
        pictures.append(
            {
                "image": image_data_url(example.image),
                "maps": maps,
                "file": _last_two(files[example.number]) if files and example.number is not None else "",
                "caption": f"{predicted}, {example.confidence:.0%}"
                + ("" if is_right else f"; is {label}")
                + blank,
                "alt": f"An image of class {label}, predicted {predicted} with {example.confidence:.0%}",
            }
        )
    return pictures


def _blank(map_):
    return "" if np.ptp(map_) else ", blank: all its values are the same"


def _last_two(path):
    return "/".join(Path(path).parts[-2:])


def _masks(seen, class_names):
    """What the page says about a segmentation, or None."""
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
            "name": class_name(number, class_names),
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
