"""Module and Parameter: registration, walking, state, moving, hooks, description."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.errors import DataError, DTypeError


class Twin(nn.Module):
    """Two layers that share a weight, a buffer and a plain attribute."""

    def __init__(self) -> None:
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter([1.0, 2.0, 3.0])
        self.register_buffer("count", gn.asarray(0))
        self.note = "plain"

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)) * self.scale


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


def test_parameters_buffers_and_modules_are_found_under_dotted_names_once() -> None:
    twin = Twin()
    assert names(twin.named_parameters()) == ["scale", "first.weight", "first.bias"]
    assert names(twin.named_buffers()) == ["count"]
    assert names(twin.named_modules()) == ["", "first", "second"]
    assert names(twin.children()) == ["first", "second"]
    assert [type(m).__name__ for m in twin.modules()] == ["Twin", "Linear", "Linear"]
    assert len(list(twin.parameters())) == 3
    assert [b.item() for b in twin.buffers()] == [0]
    assert list(twin.state_dict()) == [
        *("scale", "count", "first.weight", "first.bias", "second.weight")
    ]


def test_a_parameter_owns_its_memory_and_requires_a_gradient() -> None:
    values = np.ones(3, np.float32)
    parameter = nn.Parameter(values)
    values[0] = 5
    assert parameter.tolist() == [1, 1, 1]
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    assert nn.Parameter([1.0], dtype=gn.float64).dtype == gn.float64


def test_a_parameter_of_a_computed_tensor_is_a_leaf() -> None:
    x = gn.asarray([1.0], requires_grad=True)
    parameter = nn.Parameter(x * 2)
    assert parameter.is_leaf
    parameter.sum().backward()
    assert x.grad is None


def test_integers_are_no_parameter() -> None:
    with pytest.raises(DTypeError, match=r"int64.*register it as a buffer"):
        nn.Parameter([1, 2])


def test_assignment_replaces_and_deletion_forgets() -> None:
    module = nn.Module()
    module.w = nn.Parameter([1.0])
    module.w = nn.Parameter([2.0])
    assert [p.item() for p in module.parameters()] == [2.0]
    module.w = None
    assert list(module.parameters()) == []
    module.child = nn.Identity()
    del module.child
    assert list(module.children()) == []
    assert not hasattr(module, "child")


def test_a_buffer_stays_a_buffer_when_it_is_assigned() -> None:
    module = nn.Module()
    module.register_buffer("mean", gn.zeros(2))
    module.mean = gn.ones(2)
    assert module.state_dict()["mean"].tolist() == [1, 1]


def test_plain_tensors_and_results_are_plain_attributes() -> None:
    module = nn.Module()
    module.constant = gn.ones(2)
    module.last = nn.Parameter([1.0]) * 2
    assert module.state_dict() == {}


def test_train_and_eval_reach_all_modules() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Residual(nn.Dropout(0.5)))
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.train()
    assert all(m.training for m in model.modules())


def test_requires_grad_and_zero_grad() -> None:
    model = nn.Linear(2, 2)
    model(gn.ones((1, 2))).sum().backward()
    assert model.weight.grad is not None
    model.zero_grad()
    assert model.weight.grad is None
    model.requires_grad_(False)
    assert not model(gn.ones((1, 2))).requires_grad


def test_apply_visits_every_module() -> None:
    seen: list[str] = []
    nn.Sequential(nn.ReLU(), nn.Tanh()).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Sequential", "ReLU", "Tanh"]


def test_state_dict_shares_memory_and_loading_writes_in_place(backend: Any) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    weight, memory = target.weight, target.weight.array
    state = source.state_dict()
    assert not state["weight"].requires_grad
    keys = target.load_state_dict(state)
    assert keys == ((), ())
    assert target.weight is weight
    assert target.weight.array is memory
    assert target.weight.tolist() == source.weight.tolist()
    source.weight.assign_(0.0)
    assert state["weight"].tolist() == [[0, 0, 0]] * 2


def test_loading_casts_and_takes_arrays() -> None:
    model = nn.Linear(1, 1)
    model.load_state_dict({"weight": np.array([[2.0]]), "bias": [3]})
    assert model.weight.dtype == gn.float32
    assert model(gn.ones((1, 1))).item() == 5.0


def test_a_state_that_does_not_fit_is_refused_whole() -> None:
    model = nn.Linear(2, 3)
    before = model.weight.tolist()
    state = {"weight": np.zeros((3, 2)), "shift": np.zeros(3)}
    with pytest.raises(DataError) as caught:
        model.load_state_dict(state)
    message = str(caught.value)
    assert "missing: bias" in message
    assert "unexpected: shift" in message
    assert "weight has shape (3, 2), the model's has (2, 3)" in message
    with pytest.raises(DataError, match="misshapen: weight"):
        model.load_state_dict(state, strict=False)
    assert model.weight.tolist() == before


def test_loading_what_fits() -> None:
    model = nn.Linear(2, 1)
    keys = model.load_state_dict({"bias": [7.0], "other": [1.0]}, strict=False)
    assert keys.missing == ("weight",)
    assert keys.unexpected == ("other",)
    assert model.bias is not None
    assert model.bias.item() == 7.0


def test_to_a_dtype_keeps_the_objects_and_leaves_integers_alone(backend: Any) -> None:
    twin = Twin()
    weight = twin.first.weight
    twin(gn.ones((1, 3))).sum().backward()
    twin.to(gn.float64)
    assert twin.first.weight is weight
    assert weight.dtype == gn.float64
    assert weight.grad is not None
    assert weight.grad.dtype == gn.float64
    assert twin.count.dtype == gn.int64
    assert weight.requires_grad
    assert twin(gn.ones((1, 3), dtype=gn.float64)).dtype == gn.float64


def test_to_moves_buffers_and_takes_a_device() -> None:
    norm = nn.BatchNorm1d(2)
    norm.to("cpu", "float64")
    assert norm.running_mean.dtype == gn.float64
    assert "running_mean" in norm.state_dict()


def test_gradients_leave_an_optimizers_buffer_when_the_dtype_changes() -> None:
    parameter = nn.Parameter([1.0])
    parameter.use_grad_buffer(np.zeros(1, np.float32))
    parameter.move_(gn.float64)
    (parameter * 3.0).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.dtype == gn.float64
    assert parameter.grad.tolist() == [3.0]


def test_forward_hooks_see_change_and_leave() -> None:
    layer = nn.Linear(1, 1)
    seen: list[Any] = []
    first = layer.register_forward_hook(lambda m, inputs, y: seen.append((m, inputs, y)))
    second = layer.register_forward_hook(lambda m, inputs, y: y * 0)
    x = gn.ones((1, 1))
    assert layer(x).item() == 0
    assert seen[0][0] is layer
    assert seen[0][1] == (x,)
    first()
    second()
    assert layer(x).item() == seen[0][2].item()
    assert len(seen) == 1


def test_copies_are_apart_and_share_what_was_shared() -> None:
    for other in (copy.deepcopy(Twin()), pickle.loads(pickle.dumps(Twin()))):
        assert names(other.named_parameters()) == ["scale", "first.weight", "first.bias"]
        assert other.second.weight is other.first.weight
        assert isinstance(other.first.weight, nn.Parameter)
        assert other.first.weight.requires_grad
        assert other.training
    twin = Twin()
    other = copy.deepcopy(twin)
    twin.scale.assign_(0.0)
    assert other.scale.tolist() == [1, 2, 3]


def test_a_generated_activation_can_be_pickled() -> None:
    assert type(pickle.loads(pickle.dumps(nn.LeakyReLU(0.3)))) is nn.LeakyReLU


def test_printout_nests() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Residual(nn.ELU(0.5)))
    assert repr(model) == (
        "Sequential(\n  (0): Linear(2, 3, bias=False)\n  (1): Residual(\n"
        "    (block): ELU(alpha=0.5)\n  )\n)"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(3, 2, bias=False, activation="elu", operands={"alpha": 0.5}),
        lambda: nn.Linear(3, 2, init="orthogonal"),
        lambda: nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Dropout(0.25), nn.LayerNorm(4)),
        lambda: nn.Residual(nn.Linear(3, 4), nn.Linear(3, 4)),
        lambda: nn.Residual(nn.Linear(3, 3)),
        lambda: nn.BatchNorm1d(3, momentum=0.2, eps=1e-3, affine=False),
        lambda: nn.Embedding(5, 2, padding=1),
        lambda: nn.PReLU(3, alpha=0.1),
        lambda: nn.Sequential(nn.Flatten(2), nn.Identity(), nn.Maxout(3), nn.Softmax(0)),
        lambda: nn.LogSoftmax(),
        lambda: nn.TabularInput(3, [(1, 7), (2, 5, 3)]),
        lambda: nn.MLP((3, 4, 2), "leaky_relu", activation_operands={"alpha": 0.2}, norm="batch"),
    ],
)
def test_a_description_rebuilds_the_module(make: Any) -> None:
    module = make()
    rebuilt = nn.from_config(module.config())
    assert repr(rebuilt) == repr(module)
    assert rebuilt.config() == module.config()
    shapes = {name: x.shape for name, x in module.state_dict().items()}
    assert {name: x.shape for name, x in rebuilt.state_dict().items()} == shapes


def test_own_modules_can_be_registered() -> None:
    class Doubled(nn.Module):
        def __init__(self, times: int) -> None:
            self.times = times

        def forward(self, x: Any) -> Any:
            return x * self.times

        def config(self) -> dict[str, Any]:
            return {"class": "Doubled", "times": self.times}

    with pytest.raises(DataError, match=r"no module class 'Doubled'.*Linear"):
        nn.from_config({"class": "Doubled", "times": 2})
    assert nn.register(Doubled) is Doubled
    rebuilt = nn.from_config(nn.Sequential(Doubled(3)).config())
    assert rebuilt(gn.ones(1)).item() == 3

    other = type("Doubled", (nn.Module,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="has registered a module class of that name"):
        nn.register(other)


@pytest.mark.parametrize("change", ["load", "norm", "reload"])
def test_changes_in_place_keep_parameters_in_an_optimizers_buffer(
    change: str, backend: Any
) -> None:
    model, twin = (nn.MLP((3, 4, 2), seed=0) for _ in range(2))
    optimizer = gn.optim.create("adam", model.parameters(), lr=0.1)
    x = gn.asarray(np.ones((2, 3), np.float32))

    def step() -> None:
        nn.cross_entropy(model(x), [0, 1]).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    arrays = [p.array for p in model.parameters()]
    if change == "load":
        model.load_state_dict(twin.state_dict())
    elif change == "norm":
        nn.regularization.max_norm_(model, 0.1)
    else:
        model.load_state_dict({k: v.copy() for k, v in model.state_dict().items()})
    assert all(p.array is array for p, array in zip(model.parameters(), arrays, strict=True))
    before = model.layers[0].weight.tolist()
    step()
    assert model.layers[0].weight.tolist() != before
    assert all(p.array is array for p, array in zip(model.parameters(), arrays, strict=True))
