"""`recipes.train` and what it is made of."""

from recipes.training.cross_validation import CrossValidation as CrossValidation
from recipes.training.cross_validation import cross_validate as cross_validate
from recipes.training.full_batch import fit_full_batch as fit_full_batch
from recipes.training.refit import Refit as Refit
from recipes.training.refit import refit_on_all_data as refit_on_all_data
from recipes.training.run import Run as Run
from recipes.training.run import load_run as load_run
from recipes.training.train import train as train
from recipes.training.train_head import train_head as train_head

__all__ = [
    "CrossValidation",
    "Refit",
    "Run",
    "cross_validate",
    "fit_full_batch",
    "load_run",
    "refit_on_all_data",
    "train",
    "train_head",
]
