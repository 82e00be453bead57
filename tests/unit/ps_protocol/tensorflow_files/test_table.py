"""Tables: what is written is read, and damage in them is found where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.codec.fast.varints import encode_varint
from ps_protocol.errors import DataLossError, NotFoundError
from ps_protocol.tensor_files.checkpoint_file import CheckpointFile
from ps_protocol.tensor_files.crc32c import extended
from ps_protocol.tensorflow_files.checksums import masked
from ps_protocol.tensorflow_files.table import FOOTER_BYTES, MAGIC, SNAPPY, Table
from ps_protocol.tensorflow_files.table_writer import write_table


def written(path: Path, items: Sequence[tuple[bytes, bytes]], block_bytes: int = 256 * 1024) -> Path:
    with path.open("wb") as file:
        write_table(file, items, block_bytes)
    return path


def opened(path: Path) -> Table:
    return Table(CheckpointFile(path))


KEYS = st.lists(st.binary(max_size=40), max_size=60, unique=True).map(sorted)


@given(keys=KEYS, block_bytes=st.sampled_from([1, 50, 300, 10_000]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_written_is_read(keys: list[bytes], block_bytes: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    items = [(key, key * (number % 9)) for number, key in enumerate(keys)]
    table = opened(written(tmp_path_factory.mktemp("table") / "t", items, block_bytes))
    assert [(key, bytes(value)) for key, value in table.items()] == items
    for key, value in items:
        assert bytes(table.get(key) or b"") == value
    for key in [key + b"\0" for key in keys] + [b"", b"\xff" * 50]:
        assert (table.get(key) is None) == (key not in keys)


def test_long_keys_and_values_have_long_numbers(tmp_path: Path) -> None:
    items = [(b"a" * 200, b"x" * 70_000), (b"a" * 200 + b"b", b""), (b"b" * 20_000, b"y" * 200)]
    assert [(key, bytes(value)) for key, value in opened(written(tmp_path / "t", items)).items()] == items


def test_keys_share_what_they_begin_with(tmp_path: Path) -> None:
    items = [(b"layer/with/a/long/name/%06d" % number, b"") for number in range(1000)]
    assert written(tmp_path / "t", items).stat().st_size < 9 * len(items)


def test_keys_out_of_order_are_refused(tmp_path: Path) -> None:
    for keys in ([b"b", b"a"], [b"a", b"a"]):
        with pytest.raises(ValueError, match="does not follow"):
            written(tmp_path / "t", [(key, b"") for key in keys])


def test_only_the_block_of_a_key_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "t", [(b"%03d" % number, b"v" * 50) for number in range(100)], block_bytes=500)
    data = bytearray(path.read_bytes())
    data[20] ^= 1  # in the first block
    path.write_bytes(data)
    table = opened(path)
    assert bytes(table.get(b"099") or b"") == b"v" * 50
    with pytest.raises(DataLossError, match=r"is damaged at byte 0: the checksum of the block of \d+ bytes is wrong"):
        table.get(b"000")
    with pytest.raises(DataLossError):
        list(table.items())


def table_of(blocks: Sequence[tuple[int, bytes]], last_keys: Sequence[bytes]) -> bytes:
    """A table of blocks as they are given, each a way of compression and its content."""
    data, handles = b"", []
    for kind, content in (*blocks, (0, bytes(4))):
        handles.append(encode_varint(len(data)) + encode_varint(len(content)))
        body = content + bytes([kind])
        data += body + masked(extended(0, body)).to_bytes(4, "little")
    index = b"".join(
        [b"\0" + bytes([len(key), len(handle)]) + key + handle for key, handle in zip(last_keys, handles, strict=False)]
    )
    body = index + bytes(4) + (1).to_bytes(4, "little") + b"\0"
    footer = handles[-1] + encode_varint(len(data)) + encode_varint(len(body) - 1)
    return data + body + masked(extended(0, body)).to_bytes(4, "little") + footer.ljust(FOOTER_BYTES - 8, b"\0") + MAGIC


ONE = b"\0\1\1kv" + bytes(4) + (1).to_bytes(4, "little")


def test_blocks_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(table_of([(SNAPPY, bytes(cramjam.snappy.compress_raw(ONE)))], [b"k"]))
    assert bytes(opened(tmp_path / "t").get(b"k") or b"") == b"v"


@pytest.mark.parametrize(
    ("kind", "content", "what"),
    [
        (9, ONE, "compressed in a way, 9, that is not known"),
        (SNAPPY, b"\xff\xff\xff\x7f" + bytes(10), "cannot be as large as it says"),
        (SNAPPY, b"\x05\xff\xff\xff\xff", "cannot be decompressed"),
        (SNAPPY, b"", "cannot be as large as it says"),
        (0, b"\0\1\1kv" + bytes(4) + (9).to_bytes(4, "little"), "has no room for 9 restarts"),
        (0, b"ab", "has no room for"),
        (0, b"\5\1\1kv" + bytes(4) + (1).to_bytes(4, "little"), "the entry at byte 0 of the block goes beyond its end"),
        (0, b"\0\1\x60kv" + bytes(4) + (1).to_bytes(4, "little"), "goes beyond its end"),
        (0, b"\xff" * 11 + bytes(4) + (1).to_bytes(4, "little"), "there is no number at byte 0"),
    ],
)
def test_what_is_wrong_behind_a_right_checksum_is_found(kind: int, content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(table_of([(kind, content)], [b"k"]))
    table = opened(tmp_path / "t")
    with pytest.raises(DataLossError, match=what):
        table.get(b"k")
    with pytest.raises(DataLossError, match=what):
        list(table.items())


def test_keys_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    """Of 4,000 keys each is the one before and a letter: some 8 MB in 20 kB."""
    entries = b"".join([encode_varint(number) + b"\1\0a" for number in range(4000)])
    (tmp_path / "t").write_bytes(table_of([(0, entries + bytes(4) + (1).to_bytes(4, "little"))], [b"b"]))
    for use in (lambda table: list(table.items()), lambda table: table.get(b"a" * 4000)):
        with pytest.raises(DataLossError, match=r"t is damaged at byte 0: the block of \d+ bytes has keys without end"):
            use(opened(tmp_path / "t"))


def test_it_is_known_how_large_a_value_can_be(tmp_path: Path) -> None:
    table = opened(written(tmp_path / "t", [(b"a", b"v" * 500), (b"c", b"v" * 9000)], block_bytes=500))
    assert 500 <= table.most_bytes(b"a") < 600
    assert 9000 <= table.most_bytes(b"b") == table.most_bytes(b"c") < 9100
    assert table.most_bytes(b"d") == 0
    (tmp_path / "t").write_bytes(table_of([(SNAPPY, bytes(cramjam.snappy.compress_raw(ONE)))], [b"k"]))
    assert opened(tmp_path / "t").most_bytes(b"k") > len(ONE)


def test_keys_that_are_not_where_the_index_says_are_found(tmp_path: Path) -> None:
    for blocks, last_keys in (([(0, ONE)], [b"a"]), ([(0, ONE), (0, ONE)], [b"k", b"m"])):
        (tmp_path / "t").write_bytes(table_of(blocks, last_keys))
        with pytest.raises(DataLossError, match="not those that the index says"):
            list(opened(tmp_path / "t").items())


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"short")
    with pytest.raises(DataLossError, match="it has 5 bytes, and a footer has 48"):
        opened(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(DataLossError, match="its magic number at byte 92 is wrong"):
        opened(path)
    path.write_bytes(b"\xff" * 92 + MAGIC)
    with pytest.raises(DataLossError, match="there is no number at byte 0"):
        opened(path)
    path.write_bytes(encode_varint(10) * 4 + bytes(36) + MAGIC)
    with pytest.raises(DataLossError, match="a block of 10 bytes at 10 is not in the file"):
        opened(path)
    with pytest.raises(NotFoundError, match="nothing is missing"):
        opened(tmp_path / "nothing")
