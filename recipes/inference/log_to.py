"""log_run: a finished run in a tracking tool, epoch by epoch."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any, Literal

from recipes.common.optional import optional

Tracker = Literal["wandb", "mlflow", "tensorboard"]
_NOT_LOGGED = ("architecture", "checksums", "changes", "times", "rate_by_step")
_LONGEST = 500  # characters of a parameter, which MLflow limits


def log_run(run: Any, to: Tracker, *, name: str | None = None, **options: Any) -> Any:
    """Write settings, the history of every epoch, findings and curves of a run into a tracking tool.

    Nothing is trained, and nothing leaves this machine unless the tool is set up so: `mode="offline"` keeps Weights &
    Biases to a folder, and a `tracking_uri` that is a file or a database keeps MLflow to it.

    Args:
        run: A `recipes.Run`.
        to: "wandb", "mlflow" or "tensorboard".
        name: Name of the run in that tool; None takes the name of its folder.
        **options: For wandb the arguments of `wandb.init`: `project`, `mode`, `dir`, ... For mlflow `tracking_uri`, and
            `experiment`, an experiment's name. For tensorboard `folder`, by default "runs/tensorboard".

    Returns:
        The id of the run there; for tensorboard the folder, a `pathlib.Path`.

    Raises:
        ValueError: for another tool.
        ImportError: when the tool is not installed; the extra to install has the name of the tool.
        TypeError: for another option than `folder` with tensorboard.
    """
    writers = {"wandb": _to_wandb, "mlflow": _to_mlflow, "tensorboard": _to_tensorboard}
    if not isinstance(to, str) or to not in writers:
        raise ValueError(
            f"Run.log_to expects 'wandb', 'mlflow' or 'tensorboard'. Received {to!r}. The history of a run is also in "
            "its history.csv."
        )
    name = name or Path(str(run.settings.get("run_dir") or "run")).name
    return writers[to](run, name, options)


def _to_wandb(run, name, options):
    wandb = optional("Run.log_to('wandb')", "wandb", "Weights & Biases", "wandb")
    there = wandb.init(name=name, config=_settings(run), **options)
    for epoch, row in enumerate(_rows(run), start=1):
        there.log(row, step=epoch)
    there.summary["findings"] = _findings(run)
    if run.history:
        with tempfile.TemporaryDirectory() as folder:
            there.log({"curves": wandb.Image(_curves(run, folder))}, step=len(_rows(run)))
            there.finish()
    else:
        there.finish()
    return there.id


def _to_mlflow(run, name, options):
    mlflow = optional("Run.log_to('mlflow')", "mlflow", "MLflow", "mlflow")
    uri, experiment = options.pop("tracking_uri", None), options.pop("experiment", None)
    before = mlflow.get_tracking_uri()
    if uri is not None:
        mlflow.set_tracking_uri(uri)
    try:
        if experiment is not None:
            mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=name, **options) as there, tempfile.TemporaryDirectory() as folder:
            flat = {key: str(value)[:_LONGEST] for key, value in _flat(_settings(run)).items()}
            mlflow.log_params(flat)
            for epoch, row in enumerate(_rows(run), start=1):
                mlflow.log_metrics({key.replace("/", "."): value for key, value in row.items()}, step=epoch)
            mlflow.log_text(_findings(run), "findings.txt")
            if run.history:
                mlflow.log_artifact(_curves(run, folder))
        return there.info.run_id
    finally:
        mlflow.set_tracking_uri(before)


def _to_tensorboard(run, name, options):
    optional("Run.log_to('tensorboard')", "tensorboard", "TensorBoard", "tensorboard")
    import tensorflow as tf  # noqa: PLC0415 - other tools do without

    folder = Path(options.pop("folder", "runs/tensorboard")) / name
    if options:
        raise TypeError(
            f"Run.log_to('tensorboard') expects only folder=. Received {', '.join(options)}. Leave them out."
        )
    parts = {"train": {}, "validation": {}}
    for key, values in run.history.items():
        part = "validation" if key.startswith("val_") else "train"
        parts[part][key.removeprefix("val_")] = values
    for part, history in parts.items():
        if history:
            writer = tf.summary.create_file_writer(str(folder / part))
            with writer.as_default():
                for key, values in history.items():
                    tag = key if "/" in key else f"epoch_{key}"  # as Keras' own callback calls them
                    for epoch, value in enumerate(values):
                        tf.summary.scalar(tag, value, step=epoch)
                if part == "train":
                    settings = json.dumps(_settings(run), indent=2, default=str)
                    tf.summary.text("settings", f"```\n{settings}\n```", step=0)
                    tf.summary.text("findings", _findings(run) or "none", step=0)
            writer.close()
    return folder


def _settings(run):
    return {key: value for key, value in run.settings.items() if key not in _NOT_LOGGED}


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _rows(run):
    """What each epoch logged, without numbers that are not finite, which no tool can draw."""
    length = max(map(len, run.history.values()), default=0)
    return [
        {
            key: values[epoch]
            for key, values in run.history.items()
            if epoch < len(values) and math.isfinite(values[epoch])
        }
        for epoch in range(length)
    ]


def _findings(run):
    return "\n".join(map(str, run.findings))


def _curves(run, folder):
    from recipes import plot  # noqa: PLC0415 - brings matplotlib

    path = str(Path(folder) / "curves.png")
    plot.curves(run.history).savefig(path, dpi=100)
    return path
