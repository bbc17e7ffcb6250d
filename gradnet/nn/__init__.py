"""Networks: modules, layers, activations, initialisers, losses, output units, regularisation.

Every activation of the catalogue is here as a function, `nn.relu(x)`, and as a layer, `nn.ReLU()`.
"""

from __future__ import annotations

from typing import Any

from gradnet.nn import init as init
from gradnet.nn import losses as losses
from gradnet.nn import outputs as outputs
from gradnet.nn import regularization as regularization
from gradnet.nn.activations import Activation as Activation
from gradnet.nn.activations import LogSoftmax as LogSoftmax
from gradnet.nn.activations import Maxout as Maxout
from gradnet.nn.activations import PReLU as PReLU
from gradnet.nn.activations import Softmax as Softmax
from gradnet.nn.activations import activation as activation
from gradnet.nn.activations import class_name as _class_name
from gradnet.nn.activations import elementwise as _elementwise
from gradnet.nn.activations import find_layer as _find_layer
from gradnet.nn.activations import maxout as maxout
from gradnet.nn.activations import prelu as prelu
from gradnet.nn.batched import BatchedLinear as BatchedLinear
from gradnet.nn.batched import BatchedMLP as BatchedMLP
from gradnet.nn.containers import Residual as Residual
from gradnet.nn.containers import Sequential as Sequential
from gradnet.nn.distributions import MixtureOutput as MixtureOutput
from gradnet.nn.distributions import QuantileOutput as QuantileOutput
from gradnet.nn.layers import Dropout as Dropout
from gradnet.nn.layers import Embedding as Embedding
from gradnet.nn.layers import Flatten as Flatten
from gradnet.nn.layers import Linear as Linear
from gradnet.nn.likelihoods import gaussian_nll as gaussian_nll
from gradnet.nn.likelihoods import mixture_nll as mixture_nll
from gradnet.nn.likelihoods import poisson_nll as poisson_nll
from gradnet.nn.losses import binary_cross_entropy as binary_cross_entropy
from gradnet.nn.losses import cross_entropy as cross_entropy
from gradnet.nn.losses import hinge as hinge
from gradnet.nn.losses import huber as huber
from gradnet.nn.losses import mae as mae
from gradnet.nn.losses import mse as mse
from gradnet.nn.losses import perceptron as perceptron
from gradnet.nn.losses import quantile as quantile
from gradnet.nn.mlp import MLP as MLP
from gradnet.nn.mlp import TabularInput as TabularInput
from gradnet.nn.module import Module as Module
from gradnet.nn.module import from_config as from_config
from gradnet.nn.module import register as register
from gradnet.nn.normalization import BatchNorm1d as BatchNorm1d
from gradnet.nn.normalization import LayerNorm as LayerNorm
from gradnet.nn.outputs import OutputUnit as OutputUnit
from gradnet.nn.outputs import output_unit as output_unit
from gradnet.nn.outputs import register_output as register_output
from gradnet.nn.parameter import Parameter as Parameter
from gradnet.ops import log_softmax as log_softmax
from gradnet.ops import softmax as softmax


def __getattr__(name: str) -> Any:
    """Activations by name, looked up each time: the catalogue may change."""
    if not name.startswith("_"):
        if name[0].isupper():
            layer = _find_layer(name)
            if layer is not None:
                return layer
        else:
            try:
                return _elementwise(name)
            except KeyError:
                pass
    raise AttributeError(f"module 'gradnet.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    from gradnet import formulas

    functions = formulas.activations()
    return sorted({*globals(), *functions, *map(_class_name, functions)})
