"""Vectors of 16 floats for kernels compiled by numba, and loads without the checks that numba puts into ``a[i]``.

Numba compiles ``a[i]`` with the wraparound of negative indices, and LLVM guards every inner loop with tests for
overlapping arrays. In loops over 64 samples both cost more than the arithmetic. Here a vector is a value that stays in
registers, so that the kernels say themselves what is kept, and offsets are taken as they are. LLVM splits the vectors
where the processor's are shorter.

Arrays are flat, contiguous and float32 (``at``: int32); an offset counts elements and must be in range.
"""

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


# What numba makes of the functions below is no function of Python, and its own types say otherwise.
_intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="gsnn.vector16f")


_VECTOR = _Vector()
_IR_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:  # noqa: ANN401 - numba has no types
        super().__init__(manager, kind, _IR_VECTOR)


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:  # noqa: ANN401
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])


def _repeat(builder: Any, number: Any) -> Any:  # noqa: ANN401
    undefined = ir.Constant(_IR_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


@_intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:  # noqa: ANN401
    """The vector array[offset : offset + 16]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        address = _address(context, builder, signature.args[0], *args)
        return builder.load(builder.bitcast(address, _IR_VECTOR.as_pointer()), align=4)

    return _VECTOR(array, types.intp), generate


@_intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:  # noqa: ANN401
    """array[offset : offset + 16] = vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        address = _address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(address, _IR_VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _VECTOR), generate


@_intrinsic
def at(typing: Any, array: Any, index: Any) -> Any:  # noqa: ANN401
    """array[index] of an int32 array, as a machine integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        value = builder.load(_address(context, builder, signature.args[0], *args))
        return builder.sext(value, context.get_value_type(types.intp))

    return types.intp(array, types.intp), generate


@_intrinsic
def spread(typing: Any, array: Any, index: Any) -> Any:  # noqa: ANN401
    """A vector of 16 times array[index]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        return _repeat(builder, builder.load(_address(context, builder, signature.args[0], *args)))

    return _VECTOR(array, types.intp), generate


@_intrinsic
def fill(typing: Any, number: Any) -> Any:  # noqa: ANN401
    """A vector of 16 times the number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        return _repeat(builder, args[0])

    return _VECTOR(types.float32), generate


@_intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ANN401
    """A * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        kind = ir.FunctionType(_IR_VECTOR, [_IR_VECTOR] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), args)

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), generate


def _binary(name: str) -> Callable[..., Any]:
    @_intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
            return getattr(builder, name)(*args)

        return _VECTOR(_VECTOR, _VECTOR), generate

    return operation


add, sub, mul, div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@_intrinsic
def root(typing: Any, a: Any) -> Any:  # noqa: ANN401
    """Square roots."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        kind = ir.FunctionType(_IR_VECTOR, [_IR_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32"), args)

    return _VECTOR(_VECTOR), generate


@_intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
    """The larger of two numbers; a where one of them is a NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        return builder.select(builder.fcmp_ordered(">", args[1], args[0]), args[1], args[0])

    return _VECTOR(_VECTOR, _VECTOR), generate


@_intrinsic
def where_positive(typing: Any, a: Any, b: Any) -> Any:  # noqa: ANN401
    """B where a > 0, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        nothing = ir.Constant(_IR_VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", args[0], nothing), args[1], nothing)

    return _VECTOR(_VECTOR, _VECTOR), generate


@_intrinsic
def dropped(typing: Any, value: Any, key: Any, first: Any, threshold: Any, factor: Any) -> Any:  # noqa: ANN401
    """Value * factor where the hash of (key, first + lane) is at least the threshold, else -0, which shows the drop.

    The hash is that of :func:`gsnn.nn.dropout.mask`: key uint64, counter, threshold uint32.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        kind = ir.VectorType(_INT, LANES)

        def constant(number: int) -> Any:  # noqa: ANN401
            return ir.Constant(kind, [number] * LANES)

        def repeat(number: Any) -> Any:  # noqa: ANN401
            undefined = ir.Constant(kind, ir.Undefined)
            start = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
            return builder.shuffle_vector(start, undefined, ir.Constant(kind, [0] * LANES))

        vector, key_, first_, threshold_, factor_ = args
        low = builder.trunc(key_, _INT)
        high = builder.trunc(builder.lshr(key_, ir.Constant(ir.IntType(64), 32)), _INT)
        counter = builder.add(repeat(builder.trunc(first_, _INT)), ir.Constant(kind, list(range(LANES))))
        x = builder.add(builder.mul(counter, constant(COUNTER)), repeat(low))
        x = builder.xor(x, builder.lshr(x, constant(16)))
        x = builder.xor(builder.mul(x, constant(FIRST)), repeat(high))
        x = builder.xor(x, builder.lshr(x, constant(15)))
        x = builder.mul(x, constant(SECOND))
        x = builder.xor(x, builder.lshr(x, constant(15)))
        keep = builder.icmp_unsigned(">=", x, repeat(threshold_))
        # + 0 makes 0 of a -0 that is no drop.
        raised = builder.fadd(builder.fmul(vector, _repeat(builder, factor_)), ir.Constant(_IR_VECTOR, [0.0] * LANES))
        return builder.select(keep, raised, ir.Constant(_IR_VECTOR, [-0.0] * LANES))

    return _VECTOR(_VECTOR, types.uint64, types.intp, types.uint32, types.float32), generate


@_intrinsic
def where_kept(typing: Any, result: Any, other: Any) -> Any:  # noqa: ANN401
    """Other where ``result`` of :func:`dropped` is no drop, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        kind = ir.VectorType(_INT, LANES)
        bits = builder.bitcast(args[0], kind)
        keep = builder.icmp_unsigned("!=", bits, ir.Constant(kind, [2**31] * LANES))
        return builder.select(keep, args[1], ir.Constant(_IR_VECTOR, [0.0] * LANES))

    return _VECTOR(_VECTOR, _VECTOR), generate


@_intrinsic
def total(typing: Any, vector: Any) -> Any:  # noqa: ANN401
    """Sum of the 16 numbers, as a tree."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _IR_VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(reduce, [ir.Constant(ir.FloatType(), -0.0), args[0]], fastmath=("reassoc",))

    return types.float32(_VECTOR), generate


@_intrinsic
def fetch(typing: Any, array: Any, offset: Any) -> Any:  # noqa: ANN401
    """Ask for the cache line of array[offset] ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        address = builder.bitcast(_address(context, builder, signature.args[0], *args), pointer)
        builder.call(prefetch, [address, *(ir.Constant(_INT, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@_intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:  # noqa: ANN401
    """2 to an int32 exponent between -126 and 127, from its bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        biased = builder.add(args[0], ir.Constant(_INT, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(_INT, 23)), ir.FloatType())

    return types.float32(types.int32), generate
