"""What type checkers know of the maximum pools: with `return_indices` they return two arrays."""

from __future__ import annotations

from typing import Any, Literal, Protocol, overload

import numpy as np

_Size = int | tuple[int, ...]
_Both = tuple[np.ndarray, np.ndarray]


class MaxPool(Protocol):
    """The signature of `fastconv.max_pool2d`."""

    @overload
    def __call__(
        self,
        input: Any,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: Any = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
        return_indices: Literal[False] = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
        out: Any = None,
    ) -> np.ndarray: ...

    @overload
    def __call__(
        self,
        input: Any,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: Any = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
        *,
        return_indices: Literal[True],
        layout: str = "channels_first",
        device: str = "auto",
        out: Any = None,
    ) -> _Both: ...

    @overload
    def __call__(
        self,
        input: Any,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: Any = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
        out: Any = None,
    ) -> Any: ...


class AdaptiveMaxPool(Protocol):
    """The signature of `fastconv.adaptive_max_pool2d`."""

    @overload
    def __call__(
        self,
        input: Any,
        output_size: Any,
        return_indices: Literal[False] = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
        out: Any = None,
    ) -> np.ndarray: ...

    @overload
    def __call__(
        self,
        input: Any,
        output_size: Any,
        return_indices: Literal[True],
        *,
        layout: str = "channels_first",
        device: str = "auto",
        out: Any = None,
    ) -> _Both: ...

    @overload
    def __call__(
        self,
        input: Any,
        output_size: Any,
        return_indices: bool = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
        out: Any = None,
    ) -> Any: ...


def max_pool_type(function: Any) -> MaxPool:
    """Return the function, for type checkers as a `MaxPool`."""
    return function  # type: ignore[no-any-return]


def adaptive_max_pool_type(function: Any) -> AdaptiveMaxPool:
    """Return the function, for type checkers as an `AdaptiveMaxPool`."""
    return function  # type: ignore[no-any-return]
