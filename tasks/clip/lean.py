"""Import model classes of transformers without what they do not need: a second and a hundred megabytes less.

transformers imports scikit-learn (for assisted text generation) and SciPy (for the losses of object detectors) whenever
they are installed, on the way to any model class.
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
    """transformers asks these functions what is installed; modules that are imported meanwhile go without."""
    from transformers import utils

    installed = {name: getattr(utils, name) for name in _NOT_NEEDED}
    for name in _NOT_NEEDED:
        setattr(utils, name, lambda: False)
    try:
        yield
    finally:
        for name, function in installed.items():
            setattr(utils, name, function)
