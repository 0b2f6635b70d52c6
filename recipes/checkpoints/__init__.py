"""Files that a training run goes on from: its backups, what they are compared by, and snapshots of its weights."""

from recipes.checkpoints.ensemble_snapshots import load_snapshots as load_snapshots

__all__ = ["load_snapshots"]
