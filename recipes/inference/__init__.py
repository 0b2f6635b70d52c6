"""What is done with a finished run: predict photos, export it for other programs."""

from recipes.inference.export import Exported, ExportError, export
from recipes.inference.predict import Predictions, predict

__all__ = ["ExportError", "Exported", "Predictions", "export", "predict"]
