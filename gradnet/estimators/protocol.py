"""scikit-learn's callback protocol, where the release that is installed has it (1.9 and later)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    Method = TypeVar("Method", bound=Callable[..., Any])

    def with_callbacks(method: Method) -> Method:
        """The method itself."""
        return method


__all__ = ["CallbackSupportMixin", "Epochs", "has_callbacks", "with_callbacks"]


class Epochs:
    """Tells an estimator's callbacks of the fit and of each of its epochs.

    `attributes` gives the fitted attributes of now, from which a callback that asks for the fitted
    estimator gets one.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        most: int,
        attributes: Callable[[], dict[str, Any]],
    ) -> None:
        self.told = {
            "estimator": estimator,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self.attributes = attributes
        self.fit = estimator._init_callback_context(max_subtasks=most)
        self.epoch: Any = None
        self.fit.call_on_fit_task_begin(**self.told)
        self._begin()

    def _begin(self) -> None:
        self.epoch = self.fit.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.told, reconstruction_attributes=self.attributes)

    def epoch_done(self, last: bool) -> bool:
        """After an epoch: whether a callback asks for the end."""
        stop = bool(
            self.epoch.call_on_fit_task_end(**self.told, reconstruction_attributes=self.attributes)
        )
        self.epoch = None
        if not (last or stop):
            self._begin()
        return stop

    def done(self) -> None:
        """After the fit."""
        self.fit.call_on_fit_task_end(**self.told, reconstruction_attributes=self.attributes)


def has_callbacks(estimator: Any) -> bool:
    """Whether an estimator has callbacks to tell."""
    return bool(getattr(estimator, "_skl_callbacks", None))
