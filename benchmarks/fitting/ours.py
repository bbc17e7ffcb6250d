"""gradnet: gn.fit."""

from __future__ import annotations

import gradnet as gn
from benchmarks.fitting.clock import Job


class Telling(gn.training.Callback):
    """Tells the score of each epoch, and ends the run at the goal."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_epoch_end(self, run: gn.training.run.Run) -> None:
        row = run.history.row(run.epoch)
        score = row["val_accuracy"] if self.job.classification else -row["val_rmse"]
        if self.job.tell(run.epoch, score):
            run.request_stop("the goal is reached")


def main() -> None:
    job = Job()
    data = job.arrays()
    model = gn.nn.MLP(
        job.sizes,
        activation="relu",
        dropout=job.dropout,
        output="softmax" if job.classification else "linear",
        seed=job.seed,
    )
    gn.fit(
        model,
        data["X"],
        data["y"],
        optimizer="adam",
        lr=job.lr,
        epochs=job.epochs,
        batch_size=job.batch,
        validation=(data["X_test"], data["y_test"]),
        callbacks=[Telling(job)],
        progress=False,
        seed=job.seed,
    )


main()
