"""Uniform label smoothing (Szegedy et al., CVPR 2016); nothing is stored, the loader makes it of the labels.

``(1 - epsilon) y + epsilon / C`` over C exclusive classes. Overlapping regions are binary problems of their own:
``(1 - epsilon) y + epsilon / 2``.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from softlabels.methods.base import Method
from softlabels.methods.keys import TuningGrid


class LabelSmoothing(Method):
    """Uniform label smoothing (Szegedy et al., CVPR 2016); nothing is stored."""

    name: ClassVar[str] = "label_smoothing"
    title: ClassVar[str] = "label smoothing"
    source: ClassVar[str] = "Szegedy et al., CVPR 2016"
    version: ClassVar[str] = "1"
    blend: ClassVar[str] = "label_smoothing"
    grid: ClassVar[TuningGrid] = {"epsilon": (0.02, 0.05, 0.1, 0.2, 0.3)}

    epsilon: float = Field(0.1, ge=0, le=1, description="mass spread over all classes; applied by the loader")
