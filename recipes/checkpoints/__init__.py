"""Files from which a training run goes on: its backups, how they are compared, and snapshots of its weights."""

from recipes.checkpoints.backup_file import load_backup as load_backup
from recipes.checkpoints.ensemble_snapshots import load_snapshots as load_snapshots

__all__ = ["load_backup", "load_snapshots"]
