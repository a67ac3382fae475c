"""Optimizers: one compiled pass over all weights of a model.

References: D. P. Kingma, J. Ba, Adam, 2014, arXiv:1412.6980; I. Sutskever et al., On the importance of initialization
and momentum in deep learning, 2013 (PMLR 28:1139).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from fastconv.dispatch import load
from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arguments import shown
from fastconv.geometry.arrays import address
from fastconv.nn.layers.arguments import flag, number
from fastconv.nn.layers.parameters import Parameter
from fastconv.threads import run

__all__ = ["SGD", "Adam", "Optimizer"]

# About what an element takes on one core; it only decides whether other threads help.
_SECONDS = 0.8e-9


class Optimizer:
    """Base class of the optimizers.

    Attributes
    ----------
    iterations : int
        Steps done.
    """

    kind = ""
    # Arrays kept for each weight.
    slots = 0

    def __init__(self, learning_rate: float):
        self.learning_rate = learning_rate
        self.iterations = 0
        self._slots: dict[int, tuple[Parameter, list[np.ndarray]]] = {}
        self._steps: dict[tuple[int, ...], list[_Step]] = {}

    @property
    def learning_rate(self) -> float:
        """Factor of the gradients; it may be set at any time."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        rule = "a finite number of at least 0"
        self._learning_rate = number(type(self).__name__, "learning_rate", value, 0, 1.7e308, rule)

    def __getstate__(self) -> dict[str, Any]:
        # The steps know addresses, and the slots identities, that a copy does not have.
        return vars(self) | {"_steps": {}, "_slots": list(self._slots.values())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_slots": {id(slot[0]): slot for slot in state["_slots"]}})

    def step(self, parameters: Sequence[Parameter]) -> None:
        """Change weights by their gradients."""
        key = tuple([id(p) for p in parameters])
        steps = self._steps.get(key)
        if steps is None:
            # Another model, or other layers of it: what belongs to the old selection is not needed any more.
            self._steps = {key: self._prepared(parameters)}
            steps = self._steps[key]
        self.iterations += 1
        coefficients = self._coefficients()
        for step in steps:
            step.run(coefficients)
        for parameter in parameters:
            parameter.version += 1

    def _prepared(self, parameters: Sequence[Parameter]) -> list[_Step]:
        for parameter in parameters:
            if id(parameter) not in self._slots:
                arrays = [np.zeros_like(parameter.value) for _ in range(self.slots)]
                self._slots[id(parameter)] = parameter, arrays
        steps = []
        for dtype in sorted({p.value.dtype.name for p in parameters}):
            members = [p for p in parameters if p.value.dtype == dtype]
            steps.append(_Step(self.kind, dtype, members, [self._slots[id(p)][1] for p in members]))
        return steps

    def _coefficients(self) -> list[float]:
        """Return the numbers that the kernel of `kind` takes."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal one."""
        return {"learning_rate": self.learning_rate}


class _Step:
    """One call of a kernel for the weights of one dtype."""

    def __init__(self, kind: str, dtype: str, parameters: list[Parameter], slots: list[list[np.ndarray]]):
        self.parameters, self.slots = parameters, slots
        arrays = [(p.value, *kept) for p, kept in zip(parameters, slots, strict=True)]
        table = [(a[0].size, *map(address, a)) for a in arrays]
        self.program = load.load("optimizers:build")(kind, dtype, tuple(table))
        self.coefficients = np.empty(self.program.coefficients, dtype)
        self.seconds = _SECONDS * sum(p.value.size for p in parameters)

    def run(self, coefficients: list[float]) -> None:
        """Change the weights."""
        self.coefficients[:] = coefficients
        gradients = [p.gradient for p in self.parameters]
        io = np.array([address(self.coefficients), *[address(g) for g in gradients if g is not None]], np.int64)
        program = self.program.program
        run(program.kernel, program.g, io, program.tasks, 0, self.seconds)


class SGD(Optimizer):
    """Gradient descent, with momentum.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        From 0 to 1. ``v = momentum * v - learning_rate * g; w += v``.
    nesterov : bool
        ``w += momentum * v - learning_rate * g`` instead.
    """

    slots = 1

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False):
        super().__init__(learning_rate)
        self.momentum = number("SGD", "momentum", momentum, 0, 1, "a number from 0 to 1")
        self.nesterov = flag("SGD", "nesterov", nesterov)
        if not self.momentum:
            self.slots = 0
        self.kind = "momentum" if self.momentum else "descent"

    def _coefficients(self) -> list[float]:
        if not self.momentum:
            return [self.learning_rate]
        # What v and the gradient count in the change of w.
        ahead = (self.momentum, self.learning_rate) if self.nesterov else (1.0, 0.0)
        return [self.learning_rate, self.momentum, *ahead]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal one."""
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}


class Adam(Optimizer):
    """Gradient descent scaled by running means of the gradients and their squares.

    Parameters
    ----------
    learning_rate : float
    beta_1, beta_2 : float
        From 0 to below 1: how much of the means stays at a step.
    epsilon : float
        Above 0; outside of the bias correction, as in Keras:
        ``w -= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``.

    Notes
    -----
    Means below the smallest normal number are set to 0: they would take many times longer to compute with.
    """

    kind = "adam"
    slots = 2

    def __init__(self, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        super().__init__(learning_rate)
        below_one = math.nextafter(1, 0)
        self.beta_1 = number("Adam", "beta_1", beta_1, 0, below_one, "a number from 0 to below 1")
        self.beta_2 = number("Adam", "beta_2", beta_2, 0, below_one, "a number from 0 to below 1")
        self.epsilon = number("Adam", "epsilon", epsilon, 5e-324, 1.7e308, "a number above 0")

    def _coefficients(self) -> list[float]:
        t = self.iterations
        rate = self.learning_rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return [rate, 1 - self.beta_1, 1 - self.beta_2, self.epsilon]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal one."""
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType({"adam": Adam, "sgd": SGD})


def found(value: Any) -> Optimizer:
    """Return the optimizer that `compile` was given by name, as a class or itself."""
    rule = f"expected one of {', '.join(map(repr, OPTIMIZERS))} or a fastconv.nn.optimizers.Optimizer"
    if isinstance(value, type) and issubclass(value, Optimizer):
        return value()  # type: ignore[call-arg]
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, str):
        if value.lower() in OPTIMIZERS:
            return OPTIMIZERS[value.lower()]()  # type: ignore[call-arg]
        raise OptionError(f"compile: optimizer = {shown(value)}, {rule}")
    raise ArgumentTypeError(f"compile: optimizer = {shown(value)} is a {type(value).__name__}, {rule}")
