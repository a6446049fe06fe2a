"""What a training will take, and what limits it, before it begins."""

from vitrail.plan.make import make_plan

__all__ = ["make_plan"]
