"""The console command `recipes`, also `python -m recipes`: each command a function of a few lines."""

from recipes.cli.bad_input import BadInputError
from recipes.cli.command_line import main
from recipes.cli.train_and_check import batch_size as _batch_size  # noqa: F401 - tests read it here

__all__ = ["BadInputError", "main"]
