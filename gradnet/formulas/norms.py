"""Formulas of normalisation: what batch norm and layer norm do with an element, or with a mean."""

from gradnet.formulas.arithmetic import rsqrt


def factor(variance, eps):
    """1 / sqrt(variance + eps)."""
    return rsqrt(variance + eps)


def scale(variance, weight, eps):
    """weight / sqrt(variance + eps)."""
    return rsqrt(variance + eps) * weight


def standard(x, mean, factor):
    """x with mean 0 and variance 1."""
    return (x - mean) * factor


def scaled(x, mean, scale, bias):
    """What a norm gives."""
    return (x - mean) * scale + bias


def slope(g, standard, scale, first, second):
    """A norm's gradient: g without its mean, and without its mean product with `standard`."""
    return scale * ((g - first) - standard * second)


def follow(running, batch, kept, momentum):
    """An average that follows the batches: kept = 1 - momentum."""
    return running * kept + batch * momentum
