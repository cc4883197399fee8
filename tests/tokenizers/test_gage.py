from __future__ import annotations

import lzma
import math
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe import gage
from stemma.tokenizers.bpe.gage import Block, compress, compress_blocks, decompress, expand, ratio


def naive_block(data: bytes) -> Block:
    """Gage's compression again, on lists: count by walking, replace by walking."""
    row = list(data)
    table: list[tuple[int, int, int]] = []
    for code in sorted(set(range(256)) - set(data)):
        counts: Counter[tuple[int, int]] = Counter()
        taken_until: dict[tuple[int, int], int] = {}
        for i in range(len(row) - 1):
            pair = (row[i], row[i + 1])
            if taken_until.get(pair, 0) <= i:
                counts[pair] += 1
                taken_until[pair] = i + 2
        if not counts:
            break
        n, pair = min((-n, pair) for pair, n in counts.items())
        if -n <= 3:
            break
        replaced: list[int] = []
        while row:
            if tuple(row[:2]) == pair:
                replaced.append(code)
                del row[:2]
            else:
                replaced.append(row.pop(0))
        row = replaced
        table.append((code, *pair))
    return Block(len(data), tuple(table), bytes(row))


def test_by_hand() -> None:
    """``ab`` is the commonest (7 times), then ``\\0\\0`` could be replaced three times: too few."""
    (block,) = compress_blocks(b"abababababababc")
    assert block == Block(15, ((0, 97, 98),), b"\0\0\0\0\0\0\0c")
    (block,) = compress_blocks(b"ab" * 8)
    assert block == Block(16, ((0, 97, 98), (1, 0, 0)), b"\1\1\1\1")
    assert expand(block) == b"ab" * 8


def test_a_run_of_one_letter_is_halved_again_and_again() -> None:
    """37 a: 18 pairs and one a; 9 pairs of these; 4 of these (and one over); then too few."""
    (block,) = compress_blocks(b"a" * 37)
    assert block.table == ((0, 97, 97), (1, 0, 0), (2, 1, 1))
    assert block.payload == b"\2\2\2\2\1a"


def test_counts_in_runs_do_not_overlap() -> None:
    counts = gage.count_pairs(np.frombuffer(b"aaaa baa aaa", np.uint8))
    assert counts[97 * 256 + 97] == 2 + 1 + 1
    assert counts.sum() == 11 - 2
    counts = gage.count_pairs(np.frombuffer(b"aabbaabb", np.uint8))
    assert counts[97 * 256 + 97] == counts[98 * 256 + 98] == counts[97 * 256 + 98] == 2


def test_equally_common_pairs_go_by_the_smallest_bytes() -> None:
    (block,) = compress_blocks(b"xyxyxyxy.abababab")
    assert [pair for _, *pair in block.table][:2] == [[97, 98], [120, 121]]


def test_a_pair_that_does_not_pay_for_its_entry_stays() -> None:
    assert compress_blocks(b"ab.ab,ab;")[0].table == ()
    assert compress_blocks(b"ab.ab,ab;ab:")[0].table == ((0, 97, 98),)


few = st.lists(st.sampled_from(b"aab "), max_size=200).map(bytes)


@given(st.one_of(few, st.binary(max_size=300)))
@example(bytes(range(256)) * 3)
def test_blocks_equal_a_naive_compressor(data: bytes) -> None:
    if data:
        assert compress_blocks(data) == [naive_block(data)]


@given(st.one_of(few, st.binary(max_size=600)), st.integers(1, 300))
@example(b"", 1)
@example(bytes(range(256)) * 20, 1 << 20)
@example(b"a" * 100_000, 1 << 20)
def test_decompress_gives_the_data_back(data: bytes, block_size: int) -> None:
    compressed = compress(data, block_size=block_size)
    assert decompress(compressed) == data
    n_blocks = math.ceil(len(data) / block_size)
    assert len(compressed) <= len(data) + 17 + 9 * n_blocks
    assert compress(data, block_size=block_size) == compressed


def test_what_cannot_be_compressed_hardly_grows() -> None:
    data = np.random.default_rng(0).bytes(1_000_000)
    assert len(compress(data)) < 1.0003 * len(data)


def test_at_most_one_merge_for_each_unused_byte() -> None:
    data = np.random.default_rng(0).integers(0, 250, 200_000, np.uint8).tobytes()
    (block,) = compress_blocks(data, 1 << 20)
    assert len(block.table) == 6
    assert {code for code, _, _ in block.table} == set(range(250, 256))


@given(st.one_of(few, st.binary(max_size=300)), st.data())
def test_damaged_data_is_an_error_and_nothing_worse(data: bytes, draw: st.DataObject) -> None:
    good = compress(data, block_size=100)
    damage = draw.draw(st.sampled_from(["cut", "change", "insert", "remove"]))
    at = draw.draw(st.integers(0, len(good) - 1))
    new = draw.draw(st.binary(min_size=1, max_size=4))
    bad = {
        "cut": good[:at],
        "change": good[:at] + new + good[at + len(new) :],
        "insert": good[:at] + new + good[at:],
        "remove": good[:at] + good[at + len(new) :],
    }[damage]
    try:
        result = decompress(bad, max_bytes=1 << 20)
    except TokenizerError:
        return
    assert result == data  # the change changed nothing that counts, or nothing at all


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for start in (b"", b"GBP1", b"GBP1\x05\0\0\0\0"):
        try:
            result = decompress(start + data, max_bytes=1 << 16)
        except TokenizerError:
            continue
        assert decompress(compress(result)) == result


def packed(
    size: int, *blocks: tuple[int, list[tuple[int, int, int]], bytes], crc: int = 0
) -> bytes:
    parts = [b"GBP1", gage._varint(size), crc.to_bytes(4, "little")]
    for n, table, payload in blocks:
        parts += [gage._varint(n), gage._varint(len(table)), gage._varint(len(payload))]
        parts += [bytes(entry) for entry in table] + [payload]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends where 4 more bytes are needed"),
        (b"GBP2....", "is not data that `compress` made"),
        (packed(4, (4, [(0, 97, 0)], b"\0")), "code 0 is made of one not yet made"),
        (packed(4, (4, [(0, 1, 97), (1, 0, 97)], b"\0")), "code 0 is made of one not yet made"),
        (packed(4, (4, [(0, 97, 97), (0, 98, 98)], b"\0\0")), "two pairs for one code"),
        (packed(4, (4, [(0, 97, 97)], b"\0\0\0")), "more than the 4 bytes it says"),
        (packed(4, (4, [(0, 97, 97)], b"\0a")), "holds 3 bytes and says 4"),
        (packed(4, (5, [], b"aaaaa")), "has a block of 5 bytes"),
        (packed(4, (0, [], b"")), "has a block of 0 bytes"),
        (packed(4, (2, [], b"aaaa")), "has a block of 2 bytes, 0 pairs, 4 left"),
        (packed(4, (4, [], b"aaaa")), "checksum"),
        (packed(4, (4, [], b"aaaa"), crc=zlib.crc32(b"aaaa")) + b"!", "1 bytes too many"),
        (packed(4, (2, [], b"aa")), "ends where 1 more bytes"),
        (packed(1 << 40), "claims to hold 1099511627776 bytes"),
        (b"GBP1" + b"\xff" * 10, "more than 63 bits"),
    ],
)
def test_each_kind_of_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        decompress(data)


def test_a_table_that_doubles_24_times_stops_at_the_size_it_says() -> None:
    """A hundred bytes that would stand for gigabytes."""
    table = [(1, 0, 0), *((code, code - 1, code - 1) for code in range(2, 200))]
    with pytest.raises(TokenizerError, match="more than the 1000 bytes"):
        decompress(packed(1000, (1000, table, b"\xc7")))


def test_sizes_that_make_no_sense_are_refused() -> None:
    for block_size in (0, -1, gage.LARGEST_BLOCK + 1):
        with pytest.raises(TokenizerError, match=f"block_size is {block_size}"):
            compress(b"abc", block_size=block_size)
    with pytest.raises(TokenizerError, match="no data"):
        ratio(b"")


def lzw_ratio(data: bytes, width: int = 12) -> float:
    """LZW with codes of one width; a full dictionary stays as it is."""
    codes = {bytes([value]) for value in range(256)}
    n_codes, held = 0, b""
    for value in data:
        longer = held + bytes([value])
        if longer in codes:
            held = longer
        else:
            n_codes += 1
            if len(codes) < 1 << width:
                codes.add(longer)
            held = bytes([value])
    return (n_codes + 1) * width / 8 / len(data)


def entropy_ratio(data: bytes) -> float:
    """The least that a code for single bytes can reach."""
    shares = np.bincount(np.frombuffer(data, np.uint8)) / len(data)
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum() / 8)


@cache
def shakespeare() -> bytes:
    path = files("stemma.data") / "corpora" / "shakespeare.txt.xz"
    return lzma.decompress(path.read_bytes())


def test_almost_as_much_compression_as_lempel_ziv() -> None:
    """Gage's claim, on half a million bytes of Shakespeare."""
    data = shakespeare()[: 1 << 19]
    lzw = lzw_ratio(data)
    ratios = {size: ratio(data, block_size=size) for size in (2000, 20_000, 1 << 15, 1 << 17)}
    for block_size, found in ratios.items():
        assert block_size < 20_000 or abs(found / lzw - 1) < 0.1
    assert len(zlib.compress(data, 9)) / len(data) < ratios[1 << 15] < entropy_ratio(data)
    assert ratios[2000] > 1.25 * ratios[1 << 15]  # tables cost too much there


@pytest.mark.slow
def test_the_whole_of_shakespeare_comes_back() -> None:
    data = shakespeare()
    compressed = compress(data)
    assert decompress(compressed) == data
    assert len(compressed) / len(data) == pytest.approx(0.5353, abs=5e-4)


def test_tiny_shakespeare(mirror: Callable[[str], Path]) -> None:
    data = mirror("text/tinyshakespeare.txt").read_bytes()
    assert ratio(data, block_size=1 << 16) == pytest.approx(0.525, abs=0.001)
    assert lzw_ratio(data) == pytest.approx(0.545, abs=0.001)
    assert len(zlib.compress(data, 9)) / len(data) == pytest.approx(0.389, abs=0.001)
    assert entropy_ratio(data) == pytest.approx(0.597, abs=0.001)
