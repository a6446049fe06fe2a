"""Structs of thrift's compact protocol, byte by byte."""

import pytest

from vitrail.data.arrow import thrift
from vitrail.data.arrow.thrift import ThriftError, read_struct


def test_every_kind_of_value() -> None:
    data = bytes.fromhex(
        "11"  # field 1: true
        "12"  # 2: false
        "15 03"  # 3: -2
        "16 ac02"  # 4: 150
        "18 02 6162"  # 5: bytes
        "19 25 02 04"  # 6: list of two integers
        "1c 15 0a 00"  # 7: struct with field 1
        "19 1c 15 02 00"  # 8: list of one struct
        "17" + "00" * 8 + "03 40 7f"  # 9: float; 32, far away: a byte
        "00"
    )
    inner = {1: 5}
    expected = {1: 1, 2: 0, 3: -2, 4: 150, 5: b"ab", 6: [1, 2], 7: inner, 8: [{1: 1}], 9: None}
    assert read_struct(data + b"rest") == (expected | {32: 127}, len(data))


def test_every_beginning_is_refused() -> None:
    data = bytes.fromhex("15 ac02 1c 15 0a 00 19 25 02 04 00")
    assert read_struct(data)[1] == len(data)
    for size in range(len(data)):
        with pytest.raises(ThriftError):
            read_struct(data[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"\x1c" * 50,  # structs in structs
        b"\x19\x19" * 50,
        b"\x1b\x00\x00",  # a map
        b"\x1e\x00\x00",
        b"\x15" + b"\xff" * 20,
        b"\x19\xf5\xff\xff\xff\xff\x0f\x00",  # a list that would be long
        b"\x18\xff\xff\xff\xff\x0f\x00",
    ],
)
def test_what_is_no_struct(data: bytes) -> None:
    with pytest.raises(ThriftError):
        read_struct(data)


def test_fields_must_have_their_kind() -> None:
    fields: thrift.Fields = {1: 7, 2: -1, 3: {1: 2}, 4: [{}], 5: [{}, 3]}
    assert thrift.number(fields, 1) == 7
    assert thrift.struct(fields, 3) == {1: 2}
    assert thrift.structs(fields, 4) == [{}]
    for take, key in [
        (thrift.number, 2),
        (thrift.number, 3),
        (thrift.number, 9),
        (thrift.struct, 1),
        (thrift.structs, 5),
        (thrift.structs, 9),
    ]:
        with pytest.raises(ThriftError, match=f"field {key} of a header"):
            take(fields, key)


@pytest.mark.parametrize("kind", range(16))
def test_a_list_is_never_longer_than_its_bytes(kind: int) -> None:
    with pytest.raises((ThriftError, IndexError)):
        read_struct(bytes([0x19, 0xF0 | kind]) + b"\xff" * 5 + b"\x7f\0")
