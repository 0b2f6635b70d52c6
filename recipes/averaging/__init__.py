"""Averages of models and of views, and the batch-normalization statistics that averaged weights need."""

from recipes.averaging.average import average as average
from recipes.averaging.predict_tta import predict_tta as predict_tta
from recipes.averaging.refresh_batch_norm import refresh_batch_norm as refresh_batch_norm
from recipes.averaging.views import flips as flips
from recipes.averaging.views import multi_scale as multi_scale
from recipes.averaging.views import shifts as shifts
from recipes.averaging.views import ten_crop as ten_crop

__all__ = [
    "average",
    "flips",
    "multi_scale",
    "predict_tta",
    "refresh_batch_norm",
    "shifts",
    "ten_crop",
]
