"""Calls into the C++ library: addresses of tensors, numbers of threads, errors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.backends.native_build import load

WIDTH_STEP = 16
WIDEST = 256


def why_not(tensor: Tensor, head_width: int) -> str | None:
    """Say why the kernels cannot compute with this tensor and width, or None where they can."""
    return _unfit(tensor, head_width) or load().why


def require(*tensors: Tensor | None, head_width: int) -> None:
    """Refuse what the kernels cannot compute with.

    Raises:
        UserError: With the reason.
    """
    for tensor in tensors:
        reason = None if tensor is None else _unfit(tensor, head_width)
        if reason is not None:
            raise _refusal(reason)


def require_shapes(**found_wanted: tuple[Sequence[int], Sequence[int]]) -> None:
    """Refuse tensors of other shapes than the plan's: the kernels would read what is not there.

    Args:
        found_wanted: By name, the shape that a tensor has and the one that it must have.

    Raises:
        UserError: Naming the first that differs.
    """
    for name, (found, wanted) in found_wanted.items():
        if tuple(found) != tuple(wanted):
            raise UserError(f"the shape of {name} does not fit", value=tuple(found), fix=f"it must be {tuple(wanted)}")


def _unfit(tensor: Tensor, head_width: int) -> str | None:
    if tensor.device.type != "cpu":
        return f"the native kernels run on the CPU, and the tensors are on {tensor.device.type}"
    if tensor.dtype != torch.float32:
        name = str(tensor.dtype).removeprefix("torch.")
        return f"the native kernels compute in float32, and the tensors are {name}"
    if head_width % WIDTH_STEP or not 0 < head_width <= WIDEST:
        return (
            f"the native kernels want a head width that is a multiple of {WIDTH_STEP}, up to {WIDEST}; "
            f"it is {head_width}"
        )
    return None


def call(name: str, *arguments: Tensor | ctypes.Structure | None) -> None:
    """Call a function of the library with as many threads as torch uses; arguments become their addresses.

    Raises:
        UserError: There is no library here.
    """
    built = load()
    if built.library is None:
        raise _refusal(built.why or "it was not built")
    function = getattr(built.library, name)
    function.argtypes = _types(len(arguments))
    if function(*map(_reference, arguments), torch.get_num_threads()):
        raise MemoryError("the native attention kernels got no memory for their buffers")


def _refusal(reason: str) -> UserError:
    return UserError("this attention backend cannot run here", value="native", why=reason)


@lru_cache
def _types(addresses: int) -> tuple[object, ...]:
    """Return the types of so many addresses and the number of threads: a bare address would be cut to 32 bits."""
    return (*(ctypes.c_void_p,) * addresses, ctypes.c_int)


def _reference(argument: Tensor | ctypes.Structure | None) -> object:
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else address(argument)


def address(tensor: Tensor | None) -> int | None:
    """Return where a tensor's numbers are, for a field of a structure."""
    return None if tensor is None else tensor.data_ptr()
