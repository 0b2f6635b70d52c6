"""Several predictions averaged into a better one: models, snapshots, views; and what averaged weights need."""

from recipes.averaging import average as average
from recipes.averaging import flips as flips
from recipes.averaging import multi_scale as multi_scale
from recipes.averaging import predict_tta as predict_tta
from recipes.averaging import refresh_batch_norm as refresh_batch_norm
from recipes.averaging import shifts as shifts
from recipes.averaging import ten_crop as ten_crop
from recipes.checkpoints.ensemble_snapshots import load_snapshots as load_snapshots
from recipes.ensemble.disagreement import disagreement as disagreement
from recipes.ensemble.mc_dropout import MCDropout as MCDropout
from recipes.ensemble.mc_dropout import mc_dropout as mc_dropout
from recipes.ensemble.members import train_members as train_members

__all__ = [
    "MCDropout",
    "average",
    "disagreement",
    "flips",
    "load_snapshots",
    "mc_dropout",
    "multi_scale",
    "predict_tta",
    "refresh_batch_norm",
    "shifts",
    "ten_crop",
    "train_members",
]
