"""Vectors of 16 floats for kernels compiled by numba, and loads without the checks that numba puts into ``a[i]``.

Numba compiles ``a[i]`` with the wraparound of negative indices, and LLVM guards every inner loop with tests for
overlapping arrays. In loops over 64 samples both cost more than the arithmetic. Here a vector is a value that stays in
registers, so that the kernels decide what is kept, and offsets are not checked. LLVM splits the vectors if those of
the processor are shorter.

Arrays are flat, contiguous and float32 (``at``: int32); an offset counts elements and must be in range.
"""

# ruff: noqa: ANN401 - numba has no types

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, register_model

from gsnn.nn.dropout import COUNTER, FIRST, SECOND

LANES = 16
"""Numbers in a vector."""


# Numba's types say that `intrinsic` returns a function; it does not.
_intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="gsnn.vector16f")


_VECTOR = _Vector()
_IR_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)
_IR_INTS = ir.VectorType(_INT, LANES)
_ZEROS = ir.Constant(_IR_VECTOR, [0.0] * LANES)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _IR_VECTOR)


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def _repeat(builder: Any, number: Any, kind: ir.VectorType = _IR_VECTOR) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_IR_INTS, [0] * LANES))


def _call(builder: Any, name: str, args: Any) -> Any:
    """Call LLVM's function of this name on vectors."""
    kind = ir.FunctionType(_IR_VECTOR, [_IR_VECTOR] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32"), args)


@_intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The vector array[offset : offset + 16]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], *args)
        return builder.load(builder.bitcast(address, _IR_VECTOR.as_pointer()), align=4)

    return _VECTOR(array, types.intp), generate


@_intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """array[offset : offset + 16] = vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(address, _IR_VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _VECTOR), generate


@_intrinsic
def at(typing: Any, array: Any, index: Any) -> Any:
    """array[index] of an int32 array, as a machine integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], *args))
        return builder.sext(value, context.get_value_type(types.intp))

    return types.intp(array, types.intp), generate


@_intrinsic
def spread(typing: Any, array: Any, index: Any) -> Any:
    """A vector of 16 times array[index]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _repeat(builder, builder.load(_address(context, builder, signature.args[0], *args)))

    return _VECTOR(array, types.intp), generate


@_intrinsic
def fill(typing: Any, number: Any) -> Any:
    """A vector of 16 times the number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _repeat(builder, args[0])

    return _VECTOR(types.float32), generate


@_intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "fma", args)

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), generate


def _binary(name: str) -> Callable[..., Any]:
    @_intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return _VECTOR(_VECTOR, _VECTOR), generate

    return operation


add, sub, mul, div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@_intrinsic
def root(typing: Any, a: Any) -> Any:
    """Square roots."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "sqrt", args)

    return _VECTOR(_VECTOR), generate


@_intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of two numbers; a where one of them is a NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[1], args[0]), args[1], args[0])

    return _VECTOR(_VECTOR, _VECTOR), generate


@_intrinsic
def where_positive(typing: Any, a: Any, b: Any) -> Any:
    """B where a > 0, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], _ZEROS), args[1], _ZEROS)

    return _VECTOR(_VECTOR, _VECTOR), generate


@_intrinsic
def dropped(typing: Any, value: Any, key: Any, first: Any, threshold: Any, factor: Any) -> Any:
    """Value * factor where the hash of (key, first + lane) is at least the threshold, else -0, which marks a drop.

    The hash is that of :func:`gsnn.nn.dropout.mask`: key uint64, counter, threshold uint32.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def constant(number: int) -> Any:
            return ir.Constant(_IR_INTS, [number] * LANES)

        def repeat(number: Any) -> Any:
            return _repeat(builder, number, _IR_INTS)

        vector, key_, first_, threshold_, factor_ = args
        low = builder.trunc(key_, _INT)
        high = builder.trunc(builder.lshr(key_, ir.Constant(ir.IntType(64), 32)), _INT)
        counter = builder.add(repeat(builder.trunc(first_, _INT)), ir.Constant(_IR_INTS, list(range(LANES))))
        x = builder.add(builder.mul(counter, constant(COUNTER)), repeat(low))
        x = builder.xor(x, builder.lshr(x, constant(16)))
        x = builder.xor(builder.mul(x, constant(FIRST)), repeat(high))
        x = builder.xor(x, builder.lshr(x, constant(15)))
        x = builder.mul(x, constant(SECOND))
        x = builder.xor(x, builder.lshr(x, constant(15)))
        keep = builder.icmp_unsigned(">=", x, repeat(threshold_))
        # Adding 0 turns a -0 that is not a drop into 0.
        raised = builder.fadd(builder.fmul(vector, _repeat(builder, factor_)), _ZEROS)
        return builder.select(keep, raised, ir.Constant(_IR_VECTOR, [-0.0] * LANES))

    return _VECTOR(_VECTOR, types.uint64, types.intp, types.uint32, types.float32), generate


@_intrinsic
def where_kept(typing: Any, result: Any, other: Any) -> Any:
    """Other where ``result`` of :func:`dropped` is not a drop, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _IR_INTS)
        keep = builder.icmp_unsigned("!=", bits, ir.Constant(_IR_INTS, [2**31] * LANES))
        return builder.select(keep, args[1], _ZEROS)

    return _VECTOR(_VECTOR, _VECTOR), generate


@_intrinsic
def total(typing: Any, vector: Any) -> Any:
    """Sum of the 16 numbers, as a tree."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _IR_VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(reduce, [ir.Constant(ir.FloatType(), -0.0), args[0]], fastmath=("reassoc",))

    return types.float32(_VECTOR), generate


@_intrinsic
def fetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of array[offset] ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        address = builder.bitcast(_address(context, builder, signature.args[0], *args), pointer)
        builder.call(prefetch, [address, *(ir.Constant(_INT, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@_intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:
    """2 to an int32 exponent between -126 and 127, from its bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        biased = builder.add(args[0], ir.Constant(_INT, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(_INT, 23)), ir.FloatType())

    return types.float32(types.int32), generate
