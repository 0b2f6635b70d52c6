"""What is done with a finished run: predict photos."""

from recipes.inference.predict import Predictions, predict

__all__ = ["Predictions", "predict"]
