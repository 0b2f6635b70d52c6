"""Checks before training, rules over what was seen in training, findings with evidence and remedy."""

from recipes.diagnose.checks.activation_statistics import activation_statistics as activation_statistics
from recipes.diagnose.checks.data_check import data_check as data_check
from recipes.diagnose.checks.gradient_check import GradientReport as GradientReport
from recipes.diagnose.checks.gradient_check import gradient_check as gradient_check
from recipes.diagnose.checks.initial_loss import initial_loss as initial_loss
from recipes.diagnose.checks.learning_rate_range_test import (
    learning_rate_range_test as learning_rate_range_test,
)
from recipes.diagnose.checks.overfit_small_sample import overfit_small_sample as overfit_small_sample
from recipes.diagnose.checks.preflight import preflight as preflight
from recipes.diagnose.finding import Finding as Finding
from recipes.diagnose.rules.diagnose import diagnose as diagnose
from recipes.diagnose.rules.read_curves import read_curves as read_curves
