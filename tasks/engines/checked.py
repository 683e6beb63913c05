"""A runner that checks its inputs before native code reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import BatchOutsideProfile, WrongInput
from tasks.engines.base import BatchProfile

Form = tuple[np.dtype[Any], tuple[int | None, ...]]
"""Dtype and shape of an input; None is a size that may vary."""


class CheckedRunner:
    """A Polygraphy runner that checks its inputs: names, dtypes, layout, and the batch size against the profile.

    `profile` is None for runtimes that take any batch size; `before_close` is called if the runner ends without an
    error.
    """

    def __init__(
        self, runner: Any, profile: BatchProfile | None, before_close: Callable[[], None] = lambda: None
    ) -> None:
        self._runner = runner
        self._profile = profile
        self._before_close = before_close
        self._forms: dict[str, Form] = {}

    @property
    def name(self) -> str:
        """The runner's name, for messages."""
        return self._runner.name

    def __enter__(self) -> CheckedRunner:
        self._runner.__enter__()
        inputs = self._runner.get_input_metadata(use_numpy_dtypes=False)
        self._forms = {
            name: (dtype.numpy(), tuple(n if isinstance(n, int) and n >= 0 else None for n in shape))
            for name, (dtype, shape) in inputs.items()
        }
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self._before_close()
        finally:
            self._runner.__exit__(*error)

    @property
    def forms(self) -> Mapping[str, Form]:
        """Dtypes and shapes of the inputs by name; available once the runner is entered."""
        return self._forms

    @property
    def smallest(self) -> int:
        """The smallest batch size that it takes."""
        return 1 if self._profile is None else self._profile.min

    def infer(self, feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The outputs for one batch.

        Raises:
            WrongInput: names, types or shapes differ from the engine's.
            BatchOutsideProfile: the engine was not built for this batch size.
        """
        check_inputs(feed, self._forms, self._profile, self.name)
        return self._runner.infer(feed, check_inputs=False)

    def last_inference_time(self) -> float:
        """Seconds that the last batch took, without the check of inputs."""
        return self._runner.last_inference_time()


def halved(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A batch's inputs for an FP16 graph: FP32 arrays converted to FP16, others unchanged."""
    import torch  # which rounds as NumPy does, in a third of the time

    return {
        name: torch.from_numpy(array).half().numpy() if array.dtype == np.float32 else array
        for name, array in feed.items()
    }


def filled(batch: NDArray[Any], smallest: int) -> NDArray[Any]:
    """The batch, filled up by repeating its last row to the smallest size that an engine takes."""
    missing = smallest - len(batch)
    return batch if missing <= 0 else np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])


def check_inputs(
    feed: Mapping[str, NDArray[Any]], forms: Mapping[str, Form], profile: BatchProfile | None, where: str
) -> None:
    """Check a batch against the inputs of an engine; `where` names the engine in messages.

    Raises:
        WrongInput, BatchOutsideProfile: as `CheckedRunner.infer`.
    """
    if feed.keys() != forms.keys():
        raise WrongInput(
            f"the inputs are {', '.join(feed) or 'none'}",
            where=where,
            expected=", ".join(forms),
            fix="name the inputs as the graph does",
        )
    for name, (dtype, shape) in forms.items():
        array = feed[name]
        fits = array.ndim == len(shape) and all(w in (None, s) for s, w in zip(array.shape, shape, strict=True))
        if array.dtype != dtype or not fits:
            raise WrongInput(
                f"{name} is {array.dtype} {list(array.shape)}",
                where=where,
                expected=f"{dtype} [{', '.join('batch' if size is None else str(size) for size in shape)}]",
                fix="convert the array and put its axes in this order",
            )
    batches = {len(array) for array in feed.values()}
    if len(batches) > 1:
        raise WrongInput(
            f"the inputs have batches of {sorted(batches)}",
            where=where,
            expected="one batch size",
            fix="give rows of the same samples",
        )
    (batch,) = batches
    if profile is not None and not profile.min <= batch <= profile.max:
        raise BatchOutsideProfile(
            f"a batch of {batch}",
            where=where,
            expected=f"{profile.min} to {profile.max}, the profile that the engine was built with",
            fix="split the batch, or build with another `profile`",
        )
