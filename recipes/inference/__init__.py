"""What is done with a finished run: predict photos, export it for other programs, compare it with others."""

from recipes.inference.compare_runs import Comparison, compare_runs
from recipes.inference.export import Exported, ExportError, export
from recipes.inference.log_to import log_run
from recipes.inference.predict import Predictions, predict

__all__ = [
    "Comparison",
    "ExportError",
    "Exported",
    "Predictions",
    "compare_runs",
    "export",
    "log_run",
    "predict",
]
