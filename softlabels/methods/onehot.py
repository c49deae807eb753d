"""The hard mask itself; nothing is stored, the loader makes it of the labels."""

from __future__ import annotations

from typing import ClassVar

from softlabels.methods.base import Method


class OneHot(Method):
    """The hard mask itself; nothing is stored."""

    name: ClassVar[str] = "onehot"
    title: ClassVar[str] = "one-hot"
    source: ClassVar[str] = "the labels"
    version: ClassVar[str] = "1"
    blend: ClassVar[str] = "onehot"
