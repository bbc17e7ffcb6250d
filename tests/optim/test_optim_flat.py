"""Flat buffers: parameters and gradients are views, changes are noticed, and nothing is torn."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradnet as gn
from gradnet import optim
from gradnet.errors import DeviceError, DTypeError, GraphError, ShapeError
from gradnet.optim.flat import Flat
from gradnet.optim.optimizer import Optimizer


def leaf(*shape: int, dtype: Any = np.float32, seed: int = 0) -> gn.Tensor:
    values = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    return gn.asarray(values, requires_grad=True)


def only_flat(optimizer: Optimizer) -> Flat:
    (flat,) = optimizer.groups[0].flats
    return flat


def is_joined(p: gn.Tensor, flat: Flat) -> bool:
    """Whether the parameter reads and writes the buffer."""
    shares = np.shares_memory(p.detach().numpy(), flat.backend.to_host(flat.values))
    return p.size == 0 or bool(shares)


def loss_of(*parameters: gn.Tensor) -> gn.Tensor:
    total = (parameters[0] * parameters[0]).sum()
    for p in parameters[1:]:
        total = total + (p * p).sum()
    return total


def closure_for(optimizer: Optimizer, *parameters: gn.Tensor) -> Any:
    def closure() -> gn.Tensor:
        loss = loss_of(*parameters)
        loss.backward()
        return loss

    return closure


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=6),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_parameters_keep_their_values_at_aligned_places(
    shapes: list[tuple[int, ...]], dtype: Any
) -> None:
    parameters = [leaf(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    before = [p.detach().numpy().copy() for p in parameters]
    flat = only_flat(optim.Adam(parameters))
    host = flat.backend.to_host(flat.values)
    for i, (p, value) in enumerate(zip(parameters, before, strict=True)):
        assert is_joined(p, flat)
        assert flat.starts[i] * p.dtype.itemsize % 64 == 0
        np.testing.assert_array_equal(p.detach().numpy(), value)
        part = host[flat.starts[i] : flat.starts[i] + p.size]
        np.testing.assert_array_equal(part, value.ravel())
    assert host.shape == (flat.size,) == flat.backend.to_host(flat.gradients).shape


def test_gradients_are_added_up_in_the_buffer() -> None:
    w, b = leaf(3, 4), leaf(4)
    flat = only_flat(optim.SGD([w, b]))
    gradients = flat.backend.to_host(flat.gradients)
    for count in (1, 2, 3):
        loss_of(w, b).backward()
        for p in (w, b):
            assert np.shares_memory(p.grad.numpy(), gradients)
            np.testing.assert_allclose(p.grad.numpy(), count * 2 * p.detach().numpy(), rtol=1e-6)


def test_gradients_from_before_the_optimizer_are_kept() -> None:
    w = leaf(5)
    loss_of(w).backward()
    optimizer = optim.SGD([w], lr=0.5)
    assert np.shares_memory(w.grad.numpy(), only_flat(optimizer).gradients)
    optimizer.step()
    np.testing.assert_array_equal(w.detach().numpy(), np.zeros(5, np.float32))


def test_gradients_given_by_hand_are_used() -> None:
    w = leaf(2)
    optimizer = optim.SGD([w], lr=1.0)
    start = w.detach().numpy().copy()
    w.grad = gn.asarray(np.array([1, 2], np.float32))
    optimizer.step()
    np.testing.assert_array_equal(w.detach().numpy(), start - np.array([1, 2], np.float32))


def test_gradients_that_are_graphs_themselves_are_used() -> None:
    w = leaf(2)
    optimizer = optim.SGD([w], lr=0.25)
    start = w.detach().numpy().copy()
    loss_of(w).backward(create_graph=True)
    assert w.grad.requires_grad
    optimizer.step()
    np.testing.assert_allclose(w.detach().numpy(), start / 2, rtol=1e-6)


def test_a_gradient_buffer_that_was_let_go_is_taken_up_again() -> None:
    model = gn.nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    gradients = only_flat(optimizer).gradients
    model.to("cpu")  # was there already, but no longer adds gradients up in the buffer
    for joined in (False, True):
        optimizer.zero_grad()
        loss_of(*model.parameters()).backward()
        assert np.shares_memory(model.weight.grad.numpy(), gradients) == joined
        start = model.weight.detach().numpy().copy()
        optimizer.step()
        np.testing.assert_allclose(model.weight.detach().numpy(), 0.8 * start, rtol=1e-6)


def test_a_model_loads_its_weights_in_place() -> None:
    model, other = gn.nn.Linear(3, 2), gn.nn.Linear(3, 2)
    flat = only_flat(optim.SGD(model.parameters()))
    model.load_state_dict(other.state_dict())
    assert is_joined(model.weight, flat)
    np.testing.assert_array_equal(model.weight.detach().numpy(), other.weight.detach().numpy())


def test_zero_grad_leaves_none_and_the_next_backward_starts_anew() -> None:
    w = leaf(3)
    optimizer = optim.SGD([w])
    loss_of(w).backward()
    optimizer.zero_grad()
    assert w.grad is None
    loss_of(w).backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * w.detach().numpy())


@pytest.mark.parametrize("name", optim.names())
def test_a_step_between_forward_and_backward_is_noticed(name: str) -> None:
    w, other = leaf(3), leaf(2)
    optimizer = optim.create(name, [w, other])
    early = (w * w).sum()
    sum_only = w.sum()
    optimizer.step(closure_for(optimizer, w, other))
    with pytest.raises(GraphError, match="changed in place"):
        early.backward()
    optimizer.zero_grad()
    sum_only.backward()  # its derivative needs no values
    np.testing.assert_array_equal(w.grad.numpy(), np.ones(3, np.float32))


def test_a_step_that_leaves_a_parameter_alone_leaves_its_graph_usable() -> None:
    w, other = leaf(3), leaf(2)
    optimizer = optim.SGD([w, other], lr=0.1)
    mine, yours = loss_of(w), loss_of(other)
    mine.backward()
    optimizer.step()
    yours.backward()
    np.testing.assert_allclose(other.grad.numpy(), 2 * other.detach().numpy())


@pytest.mark.parametrize("name", optim.names())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_stay_joined_whatever_happens(name: str, dtype: Any) -> None:
    w, b = leaf(3, 2, dtype=dtype), leaf(2, dtype=dtype, seed=1)
    optimizer = optim.create(name, [w, b])
    flat = only_flat(optimizer)
    optimizer.step(closure_for(optimizer, w, b))
    with gn.no_grad():
        w.assign_(1.0)
        b *= 2
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(closure_for(optimizer, w, b))
    assert is_joined(w, flat)
    assert is_joined(b, flat)
    assert w.dtype == b.dtype == dtype
    assert not np.any(w.detach().numpy() == 1.0)


def test_two_optimizers_may_take_turns_over_the_same_parameters() -> None:
    def run(both: bool) -> np.ndarray:
        w = leaf(4, dtype=np.float64)
        first = optim.SGD([w], lr=0.1, momentum=0.9)
        second = optim.SGD([w], lr=0.2) if both else first
        for i in range(6):
            current = second if both and i % 2 else first
            if not both:
                current.lr = 0.2 if i % 2 else 0.1
                current.groups[0]["momentum"] = 0.0 if i % 2 else 0.9
            current.zero_grad()
            loss_of(w).backward()
            current.step()
        assert is_joined(w, only_flat(second if both else first))
        return w.detach().numpy().copy()

    np.testing.assert_array_equal(run(both=True), run(both=False))


def test_an_exchanged_array_is_joined_again() -> None:
    w = leaf(3)
    optimizer = optim.SGD([w], lr=0.5)
    w.array = gn.asarray(np.ones(3, np.float32)).array
    loss_of(w).backward()
    optimizer.step()
    assert is_joined(w, only_flat(optimizer))
    np.testing.assert_array_equal(w.detach().numpy(), np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.ones(3, np.float64), DTypeError, "was float32 .* is float64 now"),
        (np.ones(4, np.float32), ShapeError, r"had shape \(3,\) .* has \(4,\) now"),
    ],
)
def test_a_parameter_that_no_longer_fits_is_refused(
    array: Any, error: type[Exception], message: str
) -> None:
    w = leaf(3)
    optimizer = optim.SGD([w])
    w.array = gn.asarray(array).array
    with pytest.raises(error, match=message):
        optimizer.step()


def test_a_parameter_on_another_backend_is_refused() -> None:
    if gn.backends.unavailable("numba") is not None:
        pytest.skip("needs two backends")
    w = leaf(3)
    optimizer = optim.SGD([w])
    other = "numpy" if w.backend.name == "numba" else "numba"
    w.backend = gn.backends.get(other)
    w.array = w.array.copy()
    with pytest.raises(DeviceError, match="move the model first"):
        optimizer.step()


def test_dtypes_are_kept_apart_within_a_group() -> None:
    parameters = [leaf(3, dtype=np.float32), leaf(2, dtype=np.float64), leaf(4, dtype=np.float32)]
    optimizer = optim.Adam(parameters, lr=0.1)
    assert [flat.size * flat.dtype.itemsize for flat in optimizer.groups[0].flats] == [128, 64]
    before = [p.detach().numpy().copy() for p in parameters]
    loss_of(*(p.astype(np.float64) for p in parameters)).backward()
    optimizer.step()
    for p, old in zip(parameters, before, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), old - 0.1 * np.sign(old), rtol=1e-4)
    state = optimizer.state_dict()
    assert [state[f"0.{i}.m"].dtype for i in range(3)] == [gn.float32, gn.float64, gn.float32]
    optimizer.load_state_dict(state)


@pytest.mark.parametrize("name", optim.names())
@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_alone_and_alike(name: str, how: Any) -> None:
    w = leaf(4, dtype=np.float64)
    optimizer = optim.create(name, [{"params": [w], "lr": 0.05}], lr=0.3)
    for _ in range(3):
        optimizer.step(closure_for(optimizer, w))
    v, twin = how((w, optimizer))
    assert is_joined(v, only_flat(twin))
    assert not np.shares_memory(v.detach().numpy(), w.detach().numpy())
    assert twin.groups[0]["lr"] == 0.05
    at = w.detach().numpy().copy()
    twin.step(closure_for(twin, v))
    np.testing.assert_array_equal(w.detach().numpy(), at)
    optimizer.step(closure_for(optimizer, w))
    np.testing.assert_array_equal(w.detach().numpy(), v.detach().numpy())


def test_a_group_can_be_added_later() -> None:
    w, b = leaf(3), leaf(2)
    optimizer = optim.SGD([w], lr=0.1)
    optimizer.add_group({"params": [b], "lr": 0.5})
    loss_of(w, b).backward()
    start = w.detach().numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(b.detach().numpy(), np.zeros(2, np.float32))
    np.testing.assert_allclose(w.detach().numpy(), 0.8 * start, rtol=1e-6)
    optimizer.lr = 0.25
    assert [group["lr"] for group in optimizer.groups] == [0.25, 0.25]


def test_the_representation_tells_settings_and_size() -> None:
    optimizer = optim.SGD([{"params": [leaf(30, 40)], "lr": 0.5}, {"params": [leaf(2)]}], lr=0.1)
    text = repr(optimizer)
    assert text.startswith("SGD((lr=0.5, momentum=0.0")
    assert text.endswith(
        "(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0); 1,202 parameters)"
    )


@pytest.mark.parametrize("n", [8, 100])
def test_an_earlier_gradient_may_be_an_operand_of_the_next(n: int) -> None:
    """It lies where the next one goes, which therefore is not made there before the end."""
    generator = np.random.default_rng(n)
    layer = gn.nn.Linear(n, n)
    optim.SGD(layer.parameters(), lr=0.1)
    x = gn.asarray(generator.normal(size=(n, n)).astype(np.float32))

    def gradient(g: gn.Tensor | float) -> gn.Tensor:
        layer.weight.grad = None
        gn.sum(gn.tanh(layer.weight * g) * layer(x)).backward()
        found: Any = layer.weight.grad
        return found

    earlier = gradient(1.0)
    copied = earlier.copy()
    found = gradient(earlier).copy()
    del earlier
    assert gn.all(found == gradient(copied))
