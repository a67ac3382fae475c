"""Modules of a model that take fastconv's forward, in place and back again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fastconv.errors import ArgumentTypeError
from fastconv.integrations.torch.modules import ALL

_OURS: dict[type, type] = {module.__bases__[0]: module for module in ALL}


class Replacement:
    """What `replace` has replaced; a context manager that gives PyTorch's forwards back at its end.

    Attributes
    ----------
    modules : dict of str to torch.nn.Module
        The replaced modules by their names in the model.
    """

    def __init__(self, modules: dict[str, nn.Module]):
        self.modules = modules

    def restore(self) -> None:
        """Give the modules PyTorch's forward back."""
        for module in self.modules.values():
            if type(module) in ALL:
                module.__class__ = type(module).__bases__[0]

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *_: Any) -> None:
        self.restore()

    def __repr__(self) -> str:
        return f"Replacement({', '.join(f'{name}: {type(m).__name__}' for name, m in self.modules.items())})"


def replace(model: nn.Module) -> Replacement:
    """Let fastconv compute the convolutions and pools of a model, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Each module in it, itself included, whose type is one of `fastconv.integrations.torch` in torch.nn becomes that
        of fastconv. Parameters, buffers, hooks and the keys of the state dict stay what they are.

    Returns
    -------
    Replacement
        The modules that were replaced, by name; ``restore()``, or the end of a ``with`` block, takes them back.

    Raises
    ------
    ArgumentTypeError
        `model` is not a module.

    Notes
    -----
    Left as they are: subclasses of torch.nn's modules (quantised and parametrised ones among them), those with a
    forward of their own or with parameters that are not float32 or float64 on the CPU, and calls of
    torch.nn.functional in the model's code. A model that is to be pickled, scripted or exported: restore it before.

    Examples
    --------
    >>> import torch
    >>> from fastconv.integrations.torch import replace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    >>> with replace(model) as replaced:
    ...     print(replaced, tuple(model(torch.zeros(1, 1, 8, 8)).shape))
    Replacement(0: Conv2d, 2: MaxPool2d) (1, 4, 3, 3)
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"replace: model is a {type(model).__name__}, expected a torch.nn.Module")
    modules = {name: module for name, module in model.named_modules() if _is_replaceable(module)}
    for module in modules.values():
        module.__class__ = _OURS[type(module)]
    return Replacement(modules)


def _is_replaceable(module: nn.Module) -> bool:
    if type(module) not in _OURS or "forward" in vars(module):
        return False
    dtypes = (torch.float32, torch.float64)
    return all(p.device.type == "cpu" and p.dtype in dtypes for p in module.parameters(recurse=False))
