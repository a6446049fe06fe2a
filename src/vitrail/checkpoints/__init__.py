"""Checkpoints: written while the training goes on, whole or not at all, and found again."""

from vitrail.checkpoints.reading import Checkpoint
from vitrail.checkpoints.saver import Saver
from vitrail.checkpoints.space import require_space

__all__ = ["Checkpoint", "Saver", "require_space"]
