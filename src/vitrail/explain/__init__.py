"""Look into a model: attention, rollout, distances, and pictures of them."""

from vitrail.explain.api import EXPLAINERS, Explainer, explain
from vitrail.explain.attention import (
    attention_maps,
    class_attention,
    class_attentions,
    iter_attention,
)
from vitrail.explain.distance import attention_distance, position_similarity
from vitrail.explain.rollout import rollout

__all__ = [
    "EXPLAINERS",
    "Explainer",
    "attention_distance",
    "attention_maps",
    "class_attention",
    "class_attentions",
    "explain",
    "iter_attention",
    "position_similarity",
    "rollout",
]
