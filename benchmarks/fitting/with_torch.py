"""PyTorch: the data as tensors, a permutation for each epoch; fused Adam, or all of it compiled."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.fitting.clock import Job


def main() -> None:
    job = Job()
    torch.manual_seed(job.seed)
    arrays = job.arrays()
    X, y, X_test, y_test = (torch.from_numpy(arrays[k]) for k in ("X", "y", "X_test", "y_test"))
    layers: list[nn.Module] = []
    *hidden, last = zip(job.sizes, job.sizes[1:], strict=False)
    for n, m in hidden:
        layers += [nn.Linear(n, m), nn.ReLU()]
        if job.dropout:
            layers.append(nn.Dropout(job.dropout))
    model = nn.Sequential(*layers, nn.Linear(*last))
    optimizer = torch.optim.Adam(model.parameters(), lr=job.lr, fused=job.mode != "eager" or None)

    def loss_of(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y) if job.classification else F.mse_loss(model(x), y)

    if job.mode == "compile":
        loss_of = torch.compile(loss_of)
    for epoch in range(1, job.epochs + 1):
        model.train()
        order = torch.randperm(len(X))
        for rows in order.split(job.batch):
            loss = loss_of(X[rows], y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            z = model(X_test)
            if job.classification:
                score = (z.argmax(1) == y_test).float().mean().item()
            else:
                score = -F.mse_loss(z, y_test).sqrt().item()
        if job.tell(epoch, score):
            break


main()
