"""Optimisers, schedules, and which parameter learns how fast."""

from vitrail.train.optim.freezing import freeze
from vitrail.train.optim.groups import make_groups
from vitrail.train.optim.make import make_optimizer, set_lr
from vitrail.train.optim.schedule import lr_at

__all__ = ["freeze", "lr_at", "make_groups", "make_optimizer", "set_lr"]
