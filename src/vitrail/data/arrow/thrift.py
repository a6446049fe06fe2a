"""The headers of Parquet files: structs of Apache Thrift, compact protocol.

pyarrow reads these too, but ends the process where some of them are damaged.
"""

from typing import Any, NoReturn

DEEP = 8  # structs and lists in each other; Parquet has five

Fields = dict[int, Any]  # of a struct, by number


class ThriftError(ValueError):
    """The bytes are no such struct, or lack a field."""


def read_struct(data: bytes) -> tuple[Fields, int]:
    """Read the struct at the beginning of some bytes; give its fields, and its size in bytes.

    Integers, bytes, lists and structs become those of Python; truth values become 0 or 1.

    Raises:
        ThriftError: the bytes end before it does, or it is damaged.
    """
    try:
        return _struct(data, 0, DEEP)
    except IndexError:
        raise ThriftError("a header is cut off") from None


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read seven bits a byte, the lowest first; give the number, and where it ends.

    Raises:
        ThriftError: the bytes end before it does.
    """
    try:
        value, shift = data[at] & 127, 7
        while data[at] > 127:
            at += 1
            value |= (data[at] & 127) << shift
            shift += 7
            if shift > 70:
                raise ThriftError("a header is damaged")
    except IndexError:
        raise ThriftError("a header is cut off") from None
    return value, at + 1


def number(fields: Fields, key: int) -> int:
    """Give a field that must be an integer from 0 up. Raises ThriftError."""
    value = fields.get(key)
    return value if isinstance(value, int) and value >= 0 else _lacking(key)


def struct(fields: Fields, key: int) -> Fields:
    """Give a field that must be a struct. Raises ThriftError."""
    value = fields.get(key)
    return value if isinstance(value, dict) else _lacking(key)


def structs(fields: Fields, key: int) -> list[Fields]:
    """Give a field that must be a list of structs. Raises ThriftError."""
    value = fields.get(key)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        _lacking(key)
    return value


def _lacking(key: int) -> NoReturn:
    raise ThriftError(f"field {key} of a header is missing or wrong")


def _struct(data: bytes, at: int, depth: int) -> tuple[Fields, int]:
    fields: Fields = {}
    key = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            key += head >> 4
        else:
            raw, at = varint(data, at)
            key = _signed(raw)
        kind = head & 15
        if kind <= 2:  # true or false is told by the kind itself
            fields[key] = int(kind == 1)
        else:
            fields[key], at = _value(data, at, kind, depth - 1)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Read one value; give it, and where it ends."""
    if kind in (4, 5, 6):  # integers of 16, 32 and 64 bits
        if data[at] < 128:  # most are small, and there are many
            return _signed(data[at]), at + 1
        raw, at = varint(data, at)
        return _signed(raw), at
    if kind == 8:  # bytes
        size, at = varint(data, at)
        return data[at : at + size], at + size
    if kind in (1, 2, 3):  # truth value in a list, or a byte
        return int(data[at]), at + 1
    if kind == 7:  # float, which nothing here needs
        if at + 8 > len(data):
            raise ThriftError("a header is cut off")
        return None, at + 8
    if kind == 12 and depth:
        return _struct(data, at, depth)
    if kind not in (9, 10) or not depth:
        raise ThriftError("a header is damaged")
    return _list(data, at, depth)


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    """Read a list or set."""
    size, inner = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = varint(data, at)
    if size > len(data) - at:  # every value takes a byte at least
        raise ThriftError("a header is damaged")
    values = []
    for _ in range(size):
        value, at = _value(data, at, inner, depth - 1)
        values.append(value)
    return values, at


def _signed(value: int) -> int:
    """Undo the zigzag: 0, 1, 2, 3 stand for 0, -1, 1, -2."""
    return (value >> 1) ^ -(value & 1)
