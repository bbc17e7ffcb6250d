"""Learned variance, mixtures of an inverse problem, and a generator of points on a ring."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners, nn


def branches(x: float) -> Any:
    """The t in 0 ... 1 with t + 0.3 sin(2 pi t) = x."""
    t = np.linspace(0, 1, 20001)
    above = t + 0.3 * np.sin(2 * np.pi * t) > x
    return t[1:][above[1:] != above[:-1]]


def test_the_inverse_problem() -> None:
    x, t = learners.inverse_problem(500, noise=0.05, seed=3)
    assert x.shape == t.shape == (500, 1)
    off = x.numpy() - (t.numpy() + 0.3 * np.sin(2 * np.pi * t.numpy()))
    assert 0.04 < abs(off).max() <= 0.0501
    assert t.numpy().min() >= 0
    assert [len(branches(at)) for at in (0.2, 0.45, 0.55, 0.8)] == [1, 3, 3, 1]


def test_a_mixture_density_network_finds_the_branches_of_an_inverse_problem() -> None:
    x, t = learners.inverse_problem(600, seed=0)
    learner = learners.MixtureDensityNetwork(3, (16, 16), epochs=60, batch_size=32).fit(x, t)
    assert len(learner.trace) == 60
    assert learner.trace[-1] < -1 < learner.trace[0]
    at = np.array([[0.15], [0.5], [0.85]])
    modes, densities = learner.modes(at)
    assert modes.shape == (3, 3, 1)
    assert (np.diff(densities.numpy(), axis=1) <= 0).all()
    np.testing.assert_allclose(np.sort(modes.numpy()[1, :, 0]), branches(0.5), atol=0.06)
    np.testing.assert_allclose(
        learner.predict(at).numpy()[[0, 2], 0], [branches(0.15)[0], branches(0.85)[0]], atol=0.05
    )
    # The mean over the branches tells nothing of them, but the variance is that between them.
    mean, variance = learner.mean(at)
    assert mean.numpy()[1, 0] == pytest.approx(0.5, abs=0.1)
    assert variance.numpy()[1, 0] == pytest.approx(np.var(branches(0.5)), abs=0.03)
    drawn = learner.sample(at, 300, seed=1).numpy()[:, 1, 0]
    shares = [(abs(drawn - branch) < 0.15).mean() for branch in branches(0.5)]
    assert min(shares) > 0.15
    assert sum(shares) > 0.9
    weights, means, variances = learner.parameters(at)
    assert weights.shape == (3, 3)
    assert means.shape == variances.shape == (3, 3, 1)


def test_a_gaussian_output_learns_where_the_noise_is() -> None:
    generator = gn.random.Generator(0)
    x = generator.uniform((1500, 1), -1.0, 1.0)
    deviation = 0.1 + 0.4 * (x > 0).astype(gn.float32)
    y = x + deviation * generator.normal((1500, 1))
    model = nn.MLP((1, 16, 1), "tanh", output="gaussian", seed=0)
    gn.fit(model, x, y, lr=0.02, epochs=25, batch_size=64, schedule="cosine", progress=False)
    at = np.array([[-0.6], [0.6]])
    mean, variance = model.output.predict(model(at))
    np.testing.assert_allclose(mean.detach().numpy(), at, atol=0.1)
    np.testing.assert_allclose(np.sqrt(variance.detach().numpy())[:, 0], [0.1, 0.5], rtol=0.25)


# The ring


def test_coverage_counts_samples_by_centre() -> None:
    centres = learners.ring_centres(4)
    np.testing.assert_allclose(centres.numpy(), [[1, 0], [0, 1], [-1, 0], [0, -1]], atol=1e-6)
    samples = gn.asarray([[1.0, 0.1], [0.9, 0.0], [0.0, 0.95], [0.5, 0.5]])
    found = learners.coverage(samples, centres)
    assert found == ([2, 1, 0, 0], 0.75)
    assert found.hit() == 2
    assert found.hit(0.3) == 1
    assert learners.coverage([[5.0, 5.0]], centres).hit() == 0


def test_the_ring() -> None:
    points = learners.ring(4000, 8, spread=0.05, seed=1)
    found = learners.coverage(points, learners.ring_centres(8))
    assert found.near > 0.98
    assert min(found.counts) > 400


def test_a_gan_hits_all_modes_of_a_ring() -> None:
    gan = learners.GAN(steps=900, seed=0).fit(learners.ring(2000, seed=0))
    found = learners.coverage(gan.sample(1000), learners.ring_centres())
    assert found.hit() == 8
    assert found.near > 0.4
    assert len(gan.trace) == 900
    # Neither has won: near 2 log 2 and log 2, where D cannot tell and G need not change.
    told, fooled = np.mean(gan.trace[-100:], axis=0)
    assert told == pytest.approx(2 * math.log(2), abs=0.3)
    assert fooled == pytest.approx(math.log(2), abs=0.4)
    assert (gan.predict(np.array([[0.0, 0.0], [30.0, 0.0]])).numpy() < 0.4).all()


def test_a_gan_follows_its_seed() -> None:
    runs = [learners.GAN(hidden=(8,), steps=3, seed=s).fit(learners.ring(50)) for s in (1, 1, 2)]
    samples = [gan.sample(5).tolist() for gan in runs]
    assert samples[0] == samples[1] != samples[2]
    assert runs[0].sample(5, seed=1).tolist() != samples[0]


def test_a_column_that_does_not_vary_is_no_trouble() -> None:
    X = np.column_stack([np.linspace(0, 1, 20), np.full(20, 3.0)])
    gan = learners.GAN(hidden=(4,), steps=2, batch_size=8).fit(X)
    assert np.isfinite(gan.sample(4).numpy()).all()
