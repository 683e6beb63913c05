"""Importing model classes of transformers without modules that they do not need, which saves a second and 100 MB.

If scikit-learn (for assisted text generation) and SciPy (for losses of object detectors) are installed, transformers
imports them on the way to any model class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NOT_NEEDED = ("is_sklearn_available", "is_scipy_available")


def model_class(name: str) -> Any:
    """A class that transformers exports, such as `CLIPModel` or `CLIPConfig`."""
    import transformers

    with _without_extras():
        return getattr(transformers, name)


@contextmanager
def _without_extras() -> Iterator[None]:
    """Replace the functions that tell transformers what is installed, so that modules imported meanwhile skip these
    packages."""
    from transformers import utils

    installed = {name: getattr(utils, name) for name in _NOT_NEEDED}
    for name in _NOT_NEEDED:
        setattr(utils, name, lambda: False)
    try:
        yield
    finally:
        for name, function in installed.items():
            setattr(utils, name, function)
