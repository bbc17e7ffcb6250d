"""Pictures of data, training and networks, drawn by matplotlib (extra `plot`).

    history = gn.fit(model, X, y, validation=0.1)
    gn.plots.history(history).savefig("curves.png")
    gn.plots.confusion(y, model.output.predict(model(X)), theme="dark")

Every function returns a matplotlib `Figure` that belongs to no global state: it shows itself in a
notebook, and `savefig` writes PNG, SVG or PDF. It takes

- `theme`: "light" or "dark", or None for the style that matplotlib is set to;
- `ax`: axes to draw on; a picture of several panels is laid out within them.

Settings of matplotlib are as before afterwards. Colours are told apart with each kind of colour
blindness. What takes time to measure is measured in `gradnet.training`: `find_learning_rate`,
`layer_statistics`, `loss_surface` and `overfitting` give what is drawn here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradnet.plots.boundary import decision_boundary
    from gradnet.plots.classification import calibration, confusion, precision_recall, roc
    from gradnet.plots.curves import history, learning_rate
    from gradnet.plots.landscape import loss_surface, overfitting
    from gradnet.plots.network import activations, layers, weights
    from gradnet.plots.regression import residuals

# Imported at first use: matplotlib takes long, and need not be there.
_HOMES = {
    "activations": "network",
    "calibration": "classification",
    "confusion": "classification",
    "decision_boundary": "boundary",
    "history": "curves",
    "layers": "network",
    "learning_rate": "curves",
    "loss_surface": "landscape",
    "overfitting": "landscape",
    "precision_recall": "classification",
    "residuals": "regression",
    "roc": "classification",
    "weights": "network",
}
__all__ = [
    "activations",
    "calibration",
    "confusion",
    "decision_boundary",
    "history",
    "layers",
    "learning_rate",
    "loss_surface",
    "overfitting",
    "precision_recall",
    "residuals",
    "roc",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradnet.plots' has no attribute {name!r}")
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise ImportError(
            'gradnet.plots needs matplotlib: run pip install ".[plot]" in the checkout of gradnet'
        ) from error
    found = getattr(importlib.import_module(f"gradnet.plots.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
