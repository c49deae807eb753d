"""The names that packages load on first use are those they list, and those that type checkers see."""

import ast
import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("package", ["softlabels", "softlabels.store"])
def test_every_listed_name_loads_and_type_checkers_see_the_same(package):
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(seen) == module.__all__
    for name, home in seen.items():
        assert getattr(importlib.import_module(home), name) is getattr(module, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018
