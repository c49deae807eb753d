"""Names of a package that load on first use.

As lazy_loader has it (SPEC 1), which is not used because the key of an entry can be computed by a Python without any
package, and `softlabels.store.key` is below two packages with such names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Parameters
    ----------
    package : str
        Its `__name__`.
    homes : mapping
        Name to the module that defines it.

    Examples
    --------
    >>> load = lazy_names("numbers", {"Fraction": "fractions"})
    >>> load("Fraction")(2, 4)
    Fraction(1, 2)
    >>> load("Fiction")
    Traceback (most recent call last):
    AttributeError: module 'numbers' has no attribute 'Fiction'
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return load
