"""How ``span``, ``view`` and the functions of the CUDA instructions become machine code, in Numba's terms.

``span`` and ``view`` exist for speed alone.  Numba's iterator over a ``range`` is in a form that libNVVM neither
unrolls nor reduces in strength; its ``reshape`` is a call whose strides come back through memory; and its arrays test
each index for being negative.  With those three the inner loop of an attention takes 5.6 machine instructions for one
fused multiply-add and 234 registers; with these 1.6, and 126.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

if hasattr(np, "row_stack"):
    from numba.cuda.np import arrayobj
else:  # NumPy 2.5 dropped a name that numba-cuda 0.30 reads while this is imported
    np.row_stack = np.vstack
    try:
        from numba.cuda.np import arrayobj
    finally:
        del np.row_stack
from numba.cuda import cgutils, types
from numba.cuda.core.imputils import RefType, iternext_impl
from numba.cuda.extending import core_models, lower_builtin, register_jitable, register_model
from numba.cuda.typing.templates import AbstractTemplate, infer_global, signature

__all__ = ["compile_span", "compile_view", "instruction"]

INDEX = types.int64
CELL = types.UniTuple(INDEX, 2)


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that a kernel may call; it is compiled with each kernel.  Called from Python it is plain Python."""
    compiled: Callable[..., Any] = register_jitable(function)
    return compiled


# --- span: a counter from the start by the step, while it is below the stop ------------------------


class Counter(types.SimpleIteratorType):
    """The iterator: the address of the next index, the stop and the step."""

    def __init__(self) -> None:
        super().__init__("moaproof.counter", INDEX)


class Span(types.SimpleIterableType):
    """start, stop and step."""

    def __init__(self) -> None:
        super().__init__("moaproof.span", Counter())


@register_model(Counter)
class CounterModel(core_models.StructModel):
    """Its fields."""

    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, [("next", types.EphemeralPointer(INDEX)), ("stop", INDEX), ("step", INDEX)])


@register_model(Span)
class SpanModel(core_models.StructModel):
    """Its fields."""

    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, [("start", INDEX), ("stop", INDEX), ("step", INDEX)])


def compile_span(name: Callable[..., Any]) -> None:
    """Let ``name(stop)``, ``name(start, stop)`` and ``name(start, stop, step)`` be such counters."""

    @infer_global(name)
    class Call(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            good = not kws and 1 <= len(args) <= 3 and all(isinstance(a, types.Integer) for a in args)
            return signature(Span(), *(INDEX for _ in args)) if good else None

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        made = cgutils.create_struct_proxy(sig.return_type)(context, builder)
        made.start = args[0] if len(args) > 1 else context.get_constant(INDEX, 0)
        made.stop = args[min(1, len(args) - 1)]
        made.step = args[2] if len(args) > 2 else context.get_constant(INDEX, 1)
        return made._getvalue()  # noqa: SLF001  Numba's own name for it

    for count in (1, 2, 3):
        lower_builtin(name, *[INDEX] * count)(build)


@lower_builtin("getiter", Span)
def _getiter(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    of = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
    made = cgutils.create_struct_proxy(sig.return_type)(context, builder)
    made.next, made.stop, made.step = cgutils.alloca_once_value(builder, of.start), of.stop, of.step
    return made._getvalue()  # noqa: SLF001


@lower_builtin("iternext", Counter)
@iternext_impl(RefType.UNTRACKED)
def _iternext(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    at = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
    index = builder.load(at.next)
    result.set_valid(builder.icmp_signed("<", index, at.stop))
    result.yield_(index)
    builder.store(builder.add(index, at.step, flags=("nsw",)), at.next)


# --- view: an address and a number of columns --------------------------------------------------------


class View(types.Type):
    """Two axes over cells of a pool, row-major."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"moaproof.view({dtype})")


@register_model(View)
class ViewModel(core_models.StructModel):
    """Its fields."""

    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, [("cells", types.CPointer(fe_type.dtype)), ("columns", INDEX)])


def compile_view(name: Callable[..., Any]) -> None:
    """Let ``name(pool, start, stop, (rows, columns))`` be such a view."""

    @infer_global(name)
    class Call(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if kws or len(args) != 4 or not isinstance(args[0], types.Array) or args[0].ndim != 1:
                return None
            return signature(View(args[0].dtype), args[0], INDEX, INDEX, CELL)

    @lower_builtin(name, types.Array, INDEX, INDEX, CELL)
    def _build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pool = arrayobj.make_array(sig.args[0])(context, builder, args[0])
        made = cgutils.create_struct_proxy(sig.return_type)(context, builder)
        made.cells = builder.gep(pool.data, [args[1]], inbounds=True)
        made.columns = builder.extract_value(args[3], 1)
        return made._getvalue()  # noqa: SLF001


@infer_global(operator.getitem)
class ReadCell(AbstractTemplate):
    """view[i, j]"""

    def generic(self, args: Any, kws: Any) -> Any:
        of = args[0]
        return signature(of.dtype, of, CELL) if isinstance(of, View) and not kws else None


@infer_global(operator.setitem)
class WriteCell(AbstractTemplate):
    """view[i, j] = x"""

    def generic(self, args: Any, kws: Any) -> Any:
        of = args[0]
        return signature(types.none, of, CELL, of.dtype) if isinstance(of, View) and not kws else None


def _address(context: Any, builder: Any, view_type: Any, view: Any, cell: Any) -> Any:
    of = cgutils.create_struct_proxy(view_type)(context, builder, view)
    i, j = cgutils.unpack_tuple(builder, cell)
    return builder.gep(of.cells, [builder.add(builder.mul(i, of.columns), j)], inbounds=True)


@lower_builtin(operator.getitem, View, CELL)
def _read(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_address(context, builder, sig.args[0], args[0], args[1]))


@lower_builtin(operator.setitem, View, CELL, types.Any)
def _write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1]))
    return context.get_dummy_value()
