"""Several predictions averaged into a better one: models, snapshots, views; and what averaged weights need."""

from recipes.ensemble.average import average as average
from recipes.ensemble.batch_norm import refresh_batch_norm as refresh_batch_norm
from recipes.ensemble.disagreement import disagreement as disagreement
from recipes.ensemble.members import train_members as train_members
from recipes.ensemble.predict_views import predict_views as predict_views
from recipes.ensemble.views import flips as flips
from recipes.ensemble.views import shifts as shifts
from recipes.ensemble.views import ten_crop as ten_crop
from recipes.ensemble.views import whole as whole
from recipes.snapshots import load_snapshots as load_snapshots
