"""Optimizer updates: (p, g, *state, *scalars) -> (p, *state), one element at a time.

All state starts at zero. A step is numbered t = 1, 2, ...; a docstring says how the scalars come
from the hyperparameters and t, everything that is the same for all elements being computed once.
rate1 = 1 - beta1 and the like are passed as such: 1 - 0.999 in float32 would have four digits.
"""

from gradnet.formulas.arithmetic import maximum, minimum, sign
from gradnet.formulas.primitives import sqrt, where
from gradnet.formulas.rows import Update


def sgd_update(p, g, lr, weight_decay):
    """p - lr g, with g + weight_decay p for g."""
    return (p - lr * (g + weight_decay * p),)


def sgd_momentum_update(p, g, m, lr, momentum, weight_decay):
    """m = momentum m + g; p - lr m."""
    m = momentum * m + (g + weight_decay * p)
    return p - lr * m, m


def sgd_nesterov_update(p, g, m, lr, momentum, weight_decay):
    """m = momentum m + g; p - lr (g + momentum m)."""
    g = g + weight_decay * p
    m = momentum * m + g
    return p - lr * (g + momentum * m), m


def adagrad_update(p, g, v, lr, eps, weight_decay):
    """v = v + g**2; p - lr g / (sqrt(v) + eps)."""
    g = g + weight_decay * p
    v = v + g * g
    return p - lr * g / (sqrt(v) + eps), v


def rmsprop_update(p, g, v, lr, rate, eps, weight_decay):
    """v = v + rate (g**2 - v), rate = 1 - alpha; p - lr g / (sqrt(v) + eps)."""
    g = g + weight_decay * p
    v = v + rate * (g * g - v)
    return p - lr * g / (sqrt(v) + eps), v


def rmsprop_momentum_update(p, g, v, m, lr, rate, eps, momentum, weight_decay):
    """As rmsprop, the quotient averaged: m = momentum m + g / (sqrt(v) + eps); p - lr m."""
    g = g + weight_decay * p
    v = v + rate * (g * g - v)
    m = momentum * m + g / (sqrt(v) + eps)
    return p - lr * m, v, m


def rmsprop_centered_update(p, g, v, a, lr, rate, eps, weight_decay):
    """As rmsprop with the variance v - a**2 for v, where a = a + rate (g - a)."""
    g = g + weight_decay * p
    v = v + rate * (g * g - v)
    a = a + rate * (g - a)
    # Rounding may take the variance of a constant gradient just below zero.
    return p - lr * g / (sqrt(maximum(v - a * a, 0)) + eps), v, a


def adam_update(p, g, m, v, step, rate1, rate2, root2, eps, weight_decay):
    """m = m + rate1 (g - m); v = v + rate2 (g**2 - v); p - step m / (root2 sqrt(v) + eps).

    rate1 = 1 - beta1, rate2 = 1 - beta2, step = lr / (1 - beta1**t),
    root2 = 1 / sqrt(1 - beta2**t); g + weight_decay p for g.
    """
    g = g + weight_decay * p
    m = m + rate1 * (g - m)
    v = v + rate2 * (g * g - v)
    return p - step * m / (root2 * sqrt(v) + eps), m, v


def adamw_update(p, g, m, v, step, rate1, rate2, root2, eps, decay):
    """As adam, with p - decay p for p instead of a penalty in g; decay = lr weight_decay."""
    m = m + rate1 * (g - m)
    v = v + rate2 * (g * g - v)
    return p - decay * p - step * m / (root2 * sqrt(v) + eps), m, v


def nadam_update(p, g, m, v, step_g, step_m, rate1, rate2, root2, eps, weight_decay):
    """As adam, with p - (step_g g + step_m m) / (root2 sqrt(v) + eps).

    mu_t = beta1 (1 - 0.96**(t momentum_decay) / 2), with momentum_decay 0.004; over the product
    M of mu_1 ... mu_t, step_g = lr (1 - mu_t) / (1 - M), step_m = lr mu_(t+1) / (1 - M mu_(t+1)).
    """
    g = g + weight_decay * p
    m = m + rate1 * (g - m)
    v = v + rate2 * (g * g - v)
    return p - (step_g * g + step_m * m) / (root2 * sqrt(v) + eps), m, v


def lion_update(p, g, m, lr, rate1, rate2, decay):
    """p - decay p - lr sign(m + rate1 (g - m)); m = m + rate2 (g - m); decay = lr weight_decay."""
    direction = sign(m + rate1 * (g - m))
    return p - decay * p - lr * direction, m + rate2 * (g - m)


def next_scale(finite, scale, good, interval):
    """The scale of a loss, doubled after `interval` finite steps in a row, halved after another.

    It stays within 2**-24 ... 2**32.
    """
    doubled = where(good + 1 >= interval, minimum(scale * 2, 4294967296.0), scale)
    return where(finite, doubled, maximum(scale * 0.5, 5.960464477539063e-08))


def next_good(finite, good, interval):
    """How many finite steps there were since the scale has changed."""
    return where(finite, where(good + 1 >= interval, 0, good + 1), 0)


def next_skipped(finite, skipped):
    """How many steps were not finite."""
    return where(finite, skipped, skipped + 1)


UPDATES: dict[str, Update] = {
    update.name: update
    for update in (
        Update("sgd", sgd_update, (), flops=4, source="Robbins and Monro 1951"),
        Update("sgd_momentum", sgd_momentum_update, ("m",), flops=6, source="Polyak 1964"),
        Update(
            "sgd_nesterov",
            sgd_nesterov_update,
            ("m",),
            flops=8,
            source="Sutskever, Martens, Dahl and Hinton 2013",
        ),
        Update(
            "adagrad",
            adagrad_update,
            ("v",),
            flops=14,
            source="Duchi, Hazan and Singer 2011",
        ),
        Update("rmsprop", rmsprop_update, ("v",), flops=16, source="Tieleman and Hinton 2012"),
        Update(
            "rmsprop_momentum",
            rmsprop_momentum_update,
            ("v", "m"),
            flops=18,
            source="Tieleman and Hinton 2012",
        ),
        Update(
            "rmsprop_centered",
            rmsprop_centered_update,
            ("v", "a"),
            flops=22,
            source="Graves, arXiv 1308.0850",
        ),
        Update("adam", adam_update, ("m", "v"), flops=20, source="arXiv 1412.6980"),
        Update("adamw", adamw_update, ("m", "v"), flops=20, source="arXiv 1711.05101"),
        Update("nadam", nadam_update, ("m", "v"), flops=23, source="Dozat 2016"),
        Update("lion", lion_update, ("m",), flops=12, source="arXiv 2302.06675"),
    )
}
