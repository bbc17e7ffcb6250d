"""Optimizers, schedules of their learning rates, and clipping of gradients.

    optimizer = gradnet.optim.Adam(model.parameters(), lr=1e-3)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

Every optimizer and schedule is also found by its name: `create`, `schedule`.
"""

# ruff: noqa: F403 -- the public names are those of the rooms

from __future__ import annotations

from gradnet.optim.adaptive import *
from gradnet.optim.clipping import clip_grad_norm as clip_grad_norm
from gradnet.optim.clipping import clip_grad_value as clip_grad_value
from gradnet.optim.conjugate_gradient import *
from gradnet.optim.lbfgs import *
from gradnet.optim.lion import *
from gradnet.optim.optimizer import Optimizer as Optimizer
from gradnet.optim.plateau import *
from gradnet.optim.registry import create as create
from gradnet.optim.registry import names as names
from gradnet.optim.registry import schedule as schedule
from gradnet.optim.registry import schedule_names as schedule_names
from gradnet.optim.registry import schedule_needs as schedule_needs
from gradnet.optim.scaling import *
from gradnet.optim.schedules import *
from gradnet.optim.sgd import *
from gradnet.optim.warm_up import *
