"""Optimisers, schedules, and which parameter learns how fast."""

from vitrail.train.optim.make import make_optimizer, set_lr
from vitrail.train.optim.schedule import lr_at

__all__ = ["lr_at", "make_optimizer", "set_lr"]
