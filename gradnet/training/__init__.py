"""Training: `fit`, the Trainer under it, and what goes with them.

    history = gradnet.fit(model, X, y, optimizer="adam", epochs=50, batch_size=128,
                          validation=0.1, early_stopping=10, device="cuda", seed=0)
    history["val_loss"], history.best_epoch

- Callbacks: `Callback` is the base, `EarlyStopping` and `Checkpoint` are there.
- Metrics: by name, `metric_names()`, or functions of (y, prediction); `register_metric` adds one.
- A run that `checkpoint=` has saved goes on with `resume=`, to the same bits.
- Looking closer: `find_learning_rate`, `layer_statistics`, `loss_surface` along the `WeightPath`
  of a run, and `overfitting` measure what `gradnet.plots` draws.
"""

from gradnet.training.callbacks import Callback, EarlyStopping
from gradnet.training.capacity import CapacityStudy, overfitting
from gradnet.training.checkpoints import Checkpoint
from gradnet.training.diagnose import NotFinite
from gradnet.training.history import History
from gradnet.training.interrupt import TrainingInterrupted
from gradnet.training.landscape import LossSurface, WeightPath, loss_surface
from gradnet.training.metrics import Metric
from gradnet.training.metrics import get as metric
from gradnet.training.metrics import names as metric_names
from gradnet.training.metrics import register as register_metric
from gradnet.training.probes import LayerStatistics, layer_statistics
from gradnet.training.rate_finder import RateSearch, find_learning_rate
from gradnet.training.run import Run
from gradnet.training.trainer import Trainer, fit

__all__ = [
    "Callback",
    "CapacityStudy",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "LayerStatistics",
    "LossSurface",
    "Metric",
    "NotFinite",
    "RateSearch",
    "Run",
    "Trainer",
    "TrainingInterrupted",
    "WeightPath",
    "find_learning_rate",
    "fit",
    "layer_statistics",
    "loss_surface",
    "metric",
    "metric_names",
    "overfitting",
    "register_metric",
]
