"""One step of training: loss, gradients, penalties, clipping, the optimizer, the schedule."""

from __future__ import annotations

import math

from gradnet import optim
from gradnet.nn import Module, regularization
from gradnet.random import default_generator
from gradnet.tensor import Tensor
from gradnet.training.checks import all_finite
from gradnet.training.objective import Objective
from gradnet.training.sources import Rows


class Step:
    """Changes the model's weights by one batch, and gives the batch's loss without penalties.

    minimised = loss + l1 sum |w| + l2 sum w^2, over the weights of layers; the gradients of all
    parameters together are scaled down to the norm `clip_norm`, and after the update each unit's
    incoming weights to `max_norm`. With a `scale`, gradients are those of the scaled loss until
    they are clipped, and where they are not finite the weights stay.
    """

    def __init__(
        self,
        model: Module,
        objective: Objective,
        optimizer: optim.Optimizer,
        schedule: optim.Schedule | None,
        *,
        l1: float,
        l2: float,
        max_norm: float | None,
        clip_norm: float | None,
        scale: optim.LossScale | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.l1, self.l2 = l1, l2
        self.max_norm, self.clip_norm = max_norm, clip_norm
        self.scale = scale
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def finite(self) -> bool:
        """Whether all weights are finite, by as few looks as the optimizer has buffers of them."""
        flats = [flat for group in self.optimizer.groups for flat in group.flats]
        # As `all_finite`, in few steps of Python, which takes far longer than the sum does.
        if all(math.isfinite(flat.total()) for flat in flats):
            return True
        return all_finite([Tensor.wrap(flat.values, flat.backend) for flat in flats])

    def losses(self, batch: Rows) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and what is minimised: the loss with the penalties."""
        loss = self.objective.loss(self.model(batch.x), batch.y, batch.weight)
        if not (self.l1 or self.l2):
            return loss, loss
        return loss, loss + regularization.penalty(self.model, l1=self.l1, l2=self.l2)

    def on(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """A step on a batch that is given as tensors."""
        return self(Rows(x, y, weight))

    def picked(self, table: Rows, indices: Tensor) -> Tensor:
        """A step on the rows of a table at those indices."""
        return self(table.take(indices))

    def __call__(self, batch: Rows) -> Tensor:
        if self.optimizer.needs_closure:
            return self._searched(batch)
        loss, total = self.losses(batch)
        self.backward(total)
        self.update()
        return loss.detach()

    def backward(self, total: Tensor) -> None:
        """Add the gradients of what is minimised, times the scale, to those of the parameters."""
        (total if self.scale is None else self.scale(total)).backward()

    def update(self) -> None:
        """Change the weights by the gradients that are there, and forget those."""
        finite = None
        if self.clip_norm is not None:
            finite = None if self.scale is None else self.scale.unscale()
            optim.clip_grad_norm(self.parameters, self.clip_norm)
        if self.scale is None:
            self.optimizer.step()
        else:
            self.scale.step(finite)
        self.optimizer.zero_grad()
        self.finish()

    def finish(self) -> None:
        """What follows on a change of the weights."""
        if self.max_norm is not None:
            regularization.max_norm_(self.model, self.max_norm)
        if self.schedule is not None:
            self.schedule.after_step()

    def _searched(self, batch: Rows) -> Tensor:
        """A step of an optimizer that evaluates the loss several times."""
        noise, state = default_generator(), default_generator().get_state()
        first: list[Tensor] = []

        def closure() -> Tensor:
            # The same dropout mask at every point of the search.
            noise.set_state(state)
            self.optimizer.zero_grad()
            loss, total = self.losses(batch)
            total.backward()
            first.append(loss.detach())
            return total

        self.optimizer.step(closure)
        # Such a search stops where its gradient is not finite, and changes nothing: tell of it.
        searched = all_finite([p.grad for p in self.parameters if p.grad is not None])
        self.optimizer.zero_grad()
        self.finish()
        return first[0] if searched else first[0] * math.nan
