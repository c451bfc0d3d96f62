import hashlib
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from node.custody.encryption import (
    CHUNK_BYTES,
    TAG_BYTES,
    BlobChangedError,
    BlobError,
    BlobFormatError,
    BlobOpener,
    BlobSealer,
    BlobTruncatedError,
    CommitmentMismatchError,
    decrypt_stream,
    new_data_key,
)

KEY = bytes(range(32))
CHUNK = 16
SEALED_CHUNK = CHUNK + TAG_BYTES
HEADER = 36
MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
CONTENT = bytes(range(100))  # Six full chunks of 16 bytes and a seventh of 4.


def seal(content: Iterable[bytes], key: bytes = KEY) -> tuple[bytes, bytes]:
    """The blob of a content in small chunks, and its commitment."""
    sealer = BlobSealer(key, chunk_bytes=CHUNK)
    blob = b"".join([sealer.update(part) for part in content])
    return blob + sealer.finish(), sealer.commitment


def blob_of(content: bytes, key: bytes = KEY) -> bytes:
    return seal([content], key)[0]


def commitment_of(content: bytes, key: bytes = KEY) -> bytes:
    return seal([content], key)[1]


def opened(blob: bytes, content: bytes = CONTENT, key: bytes = KEY) -> bytes:
    return b"".join(decrypt_stream(key, [blob], commitment_of(content, key)))


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@given(content=st.binary(max_size=200), sizes=st.lists(st.integers(0, 60)), again=st.lists(st.integers(0, 60)))
def test_a_content_of_any_length_comes_back_however_it_is_cut_into_pieces(
    content: bytes, sizes: list[int], again: list[int]
) -> None:
    blob, commitment = seal(pieces(content, sizes))

    back = b"".join(decrypt_stream(KEY, pieces(blob, again), commitment))

    assert back == content


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
def test_every_chunk_but_the_last_is_full_and_even_nothing_has_one_chunk(size: int) -> None:
    blob = blob_of(bytes(size))

    chunks = max(1, -(-size // CHUNK))
    assert len(blob) == HEADER + size + chunks * TAG_BYTES
    assert opened(blob, bytes(size)) == bytes(size)


@given(position=st.integers(0, len(blob_of(CONTENT)) - 1), bit=st.integers(0, 7))
def test_every_changed_bit_of_a_blob_is_an_error(position: int, bit: int) -> None:
    blob = bytearray(blob_of(CONTENT))
    blob[position] ^= 1 << bit

    with pytest.raises(BlobError):
        opened(bytes(blob))


@given(length=st.integers(0, len(blob_of(CONTENT)) - 1))
def test_a_blob_cut_short_anywhere_is_an_error(length: int) -> None:
    with pytest.raises(BlobError):
        opened(blob_of(CONTENT)[:length])


@given(extra=st.binary(min_size=1, max_size=80))
def test_bytes_after_the_last_chunk_are_an_error(extra: bytes) -> None:
    with pytest.raises(BlobChangedError):
        opened(blob_of(CONTENT) + extra)


@pytest.mark.parametrize("size", [2 * CHUNK, 2 * CHUNK + 5])
def test_a_whole_last_chunk_given_again_is_an_error(size: int) -> None:
    blob = blob_of(bytes(size))

    with pytest.raises(BlobChangedError):
        opened(blob + blob[-SEALED_CHUNK:], bytes(size))


def test_a_blob_that_ends_between_two_chunks_is_called_truncated() -> None:
    with pytest.raises(BlobTruncatedError, match="after 2 chunks"):
        opened(blob_of(CONTENT)[: HEADER + 2 * SEALED_CHUNK])


def test_two_chunks_that_changed_places_are_an_error() -> None:
    blob = blob_of(CONTENT)
    first, second = HEADER, HEADER + SEALED_CHUNK
    swapped = blob[:first] + blob[second : second + SEALED_CHUNK] + blob[first:second] + blob[second + SEALED_CHUNK :]

    with pytest.raises(BlobChangedError, match="chunk 0"):
        opened(swapped)


def test_a_chunk_left_out_is_an_error() -> None:
    blob = blob_of(CONTENT)

    with pytest.raises(BlobChangedError, match="chunk 1"):
        opened(blob[: HEADER + SEALED_CHUNK] + blob[HEADER + 2 * SEALED_CHUNK :])


def test_a_stream_whose_chunk_size_was_rewritten_does_not_open() -> None:
    content = bytes(2 * CHUNK)
    blob = bytearray(blob_of(content))
    blob[8:12] = (CHUNK + SEALED_CHUNK).to_bytes(4, "big")

    with pytest.raises(BlobChangedError):
        opened(bytes(blob), content)


@pytest.mark.parametrize("head", [b"CTBLOA\x00\x00", b"CTBLOB\x00\x01", b"CTBLOB\x00\x00\xff\xff\xff\xff"])
def test_another_format_version_or_size_is_refused_before_anything_is_decrypted(head: bytes) -> None:
    with pytest.raises(BlobFormatError):
        opened(head + blob_of(CONTENT)[len(head) :])


def test_another_data_key_opens_nothing() -> None:
    with pytest.raises(BlobChangedError, match="chunk 0"):
        opened(blob_of(CONTENT), key=bytes(32))


def test_the_end_of_another_content_is_withheld_under_this_commitment() -> None:
    other = CONTENT[:-1] + b"\x00"
    released = bytearray()

    def read() -> None:
        for part in decrypt_stream(KEY, pieces(blob_of(other), [SEALED_CHUNK] * 9), commitment_of(CONTENT)):
            released.extend(part)

    with pytest.raises(CommitmentMismatchError):
        read()
    assert released == CONTENT[: 6 * CHUNK]


def test_the_commitment_is_blake2b_keyed_by_a_key_derived_from_the_data_key() -> None:
    derived = hashlib.blake2b(b"CARETRACE/commitment-key/1", digest_size=32, key=KEY).digest()

    expected = hashlib.blake2b(CONTENT, digest_size=32, key=derived).digest()

    assert seal(pieces(CONTENT, [7, 30]))[1] == expected


def test_equal_contents_under_two_data_keys_have_nothing_in_common() -> None:
    one, other = new_data_key(), new_data_key()

    assert commitment_of(CONTENT, one) != commitment_of(CONTENT, other)
    assert blob_of(CONTENT, one)[HEADER:] != blob_of(CONTENT, other)[HEADER:]


def test_the_sealer_knows_size_and_commitment_of_what_it_was_given() -> None:
    sealer = BlobSealer(KEY)

    sealer.update(CONTENT)
    sealer.update(CONTENT)
    sealer.finish()

    assert (sealer.size_bytes, sealer.commitment) == (200, commitment_of(CONTENT + CONTENT))


def test_memory_stays_constant_however_large_the_record_is() -> None:
    sealer, mebibyte = BlobSealer(KEY), bytes(1 << 20)
    opener = BlobOpener(KEY, commitment_of(mebibyte * 24))
    tracemalloc.start()

    for _ in range(24):
        opener.update(sealer.update(mebibyte))
    opener.update(sealer.finish())
    opener.finish()

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_chunks_of_the_usual_size_cost_17_bytes_each() -> None:
    sealer = BlobSealer(KEY)

    blob = sealer.update(bytes(3 * CHUNK_BYTES)) + sealer.finish()

    assert len(blob) == HEADER + 3 * (CHUNK_BYTES + 17)


def by_hand(*chunks: tuple[bytes, int]) -> bytes:
    """A blob of chunks of 4 bytes, each with its tag, as the specification says; made without our code."""
    prefix = b"CTBLOB" + (0).to_bytes(2, "big") + (4).to_bytes(4, "big")
    key = hashlib.blake2b(b"CARETRACE/stream-key/1", digest_size=32, key=KEY).digest()
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    header = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, key)
    push = bindings.crypto_secretstream_xchacha20poly1305_push
    return b"".join((prefix, header, *(push(state, plaintext, prefix, tag) for plaintext, tag in chunks)))


def test_a_blob_written_by_hand_as_the_specification_says_opens() -> None:
    blob = by_hand((b"four", MESSAGE), (b"more", MESSAGE), (b"end", FINAL))

    assert opened(blob, b"fourmoreend") == b"fourmoreend"


def test_a_short_chunk_that_is_not_marked_as_the_last_is_called_truncated() -> None:
    with pytest.raises(BlobTruncatedError, match="chunk 1 is short"):
        opened(by_hand((b"four", MESSAGE), (b"end", MESSAGE)), b"fourend")
