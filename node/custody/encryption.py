"""How a record's content is encrypted and committed to; pure, so that wallets use it too.

A record has one random data key. Two keys are derived from it: one encrypts the content as a stream of chunks
(libsodium secretstream), the other keys the commitment on the ledger, which thereby says nothing once the data
key is destroyed. How a data key is handed to one reader stands in ``sealing``.

Blob = magic, format version, chunk size (big-endian), secretstream header, then the chunks; each is 17 bytes
longer than its plaintext, all but the last are full, and the last one is marked as last (docs/spec/records.md).
"""

import struct
from collections.abc import Iterable, Iterator

from nacl import bindings
from nacl.bindings import crypto_secretstream as stream
from nacl.hashlib import blake2b
from nacl.utils import random

DATA_KEY_BYTES = 32
CHUNK_BYTES = 64 * 1024
CHUNK_BYTES_MAX = 1 << 20
TAG_BYTES = stream.crypto_secretstream_xchacha20poly1305_ABYTES

_MAGIC = b"CTBLOB"
_FORMAT_VERSION = 0
_PREFIX = struct.Struct(">6sHI")
_HEADER_BYTES = _PREFIX.size + stream.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_MESSAGE = stream.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_FINAL = stream.crypto_secretstream_xchacha20poly1305_TAG_FINAL


class BlobError(Exception):
    """A record's ciphertext is not what its custodian sealed; no more of it may be believed."""

    code = "record.damaged"


class BlobFormatError(BlobError):
    """The bytes do not begin as a blob of this version does."""

    code = "record.format_unknown"


class BlobTruncatedError(BlobError):
    """The ciphertext ends before the chunk that is marked as its last."""

    code = "record.truncated"


class BlobChangedError(BlobError):
    """A chunk does not authenticate: changed, out of its order, or sealed under another data key."""

    code = "record.changed"


class CommitmentMismatchError(BlobError):
    """The content is not the one whose commitment the ledger holds."""

    code = "record.commitment_mismatch"


def new_data_key() -> bytes:
    """Return 32 fresh random bytes for one version of one record."""
    return random(DATA_KEY_BYTES)


def _derived(data_key: bytes, purpose: bytes) -> bytes:
    return blake2b(purpose, digest_size=32, key=data_key).digest()


def _commitment(data_key: bytes) -> blake2b:
    """Begin a commitment: BLAKE2b of the content under a key of its own, so that it says nothing without the key."""
    return blake2b(b"", digest_size=32, key=_derived(data_key, b"CARETRACE/commitment-key/1"))


class BlobSealer:
    """Encrypt a content of any length piece by piece, holding at most one chunk of it.

    ``commitment`` and ``size_bytes`` (of the content) are final once ``finish`` has returned.
    """

    def __init__(self, data_key: bytes, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Begin a blob; ``chunk_bytes`` of plaintext go into each chunk."""
        assert 0 < chunk_bytes <= CHUNK_BYTES_MAX
        self.size_bytes = 0
        self._chunk_bytes = chunk_bytes
        self._commitment = _commitment(data_key)
        self._state = stream.crypto_secretstream_xchacha20poly1305_state()
        key = _derived(data_key, b"CARETRACE/stream-key/1")
        header = stream.crypto_secretstream_xchacha20poly1305_init_push(self._state, key)
        self._prefix = _PREFIX.pack(_MAGIC, _FORMAT_VERSION, chunk_bytes)
        self._ready = self._prefix + header
        self._waiting = bytearray()

    @property
    def commitment(self) -> bytes:
        """The commitment of what was given so far."""
        return self._commitment.digest()

    def update(self, plaintext: bytes) -> bytes:
        """Take a piece of the content and return the ciphertext that is ready to be stored."""
        self._commitment.update(plaintext)
        self.size_bytes += len(plaintext)
        self._waiting += plaintext
        parts, start = [self._ready], 0
        # A full chunk waits for the byte after it: only then is it known not to be the last.
        while len(self._waiting) - start > self._chunk_bytes:
            parts.append(self._push(bytes(self._waiting[start : start + self._chunk_bytes]), _MESSAGE))
            start += self._chunk_bytes
        del self._waiting[:start]
        self._ready = b""
        return b"".join(parts)

    def finish(self) -> bytes:
        """Return the rest of the blob, marked as its end."""
        return self._ready + self._push(bytes(self._waiting), _FINAL)

    def _push(self, plaintext: bytes, tag: int) -> bytes:
        # The prefix is authenticated with every chunk: nobody changes the chunk size of a blob unseen.
        return stream.crypto_secretstream_xchacha20poly1305_push(self._state, plaintext, self._prefix, tag)


class BlobOpener:
    """Decrypt a blob piece by piece; nothing comes out before it is authenticated.

    The last chunk comes out only if the whole content matches ``commitment``, as the ledger states it.
    """

    def __init__(self, data_key: bytes, commitment: bytes) -> None:
        """Begin with the data key and the commitment that the ledger holds."""
        self._expected = commitment
        self._commitment = _commitment(data_key)
        self._key = _derived(data_key, b"CARETRACE/stream-key/1")
        self._state = stream.crypto_secretstream_xchacha20poly1305_state()
        self._prefix = b""
        self._sealed_bytes = 0
        self._waiting = bytearray()
        self._chunks = 0
        self._ended = False

    def update(self, blob: bytes) -> bytes:
        """Take a piece of ciphertext and return the content that it completes.

        Raises:
            BlobError: which rule the bytes broke is its class; nothing after that may be asked of this object.
        """
        self._waiting += blob
        if not self._prefix and not self._begin():
            return b""
        parts, start = [], 0
        while len(self._waiting) - start >= self._sealed_bytes:
            plaintext, _ = self._pull(bytes(self._waiting[start : start + self._sealed_bytes]))
            parts.append(plaintext)
            start += self._sealed_bytes
        del self._waiting[:start]
        if self._ended and self._waiting:
            raise BlobChangedError("bytes follow the chunk that is marked as the last")
        return b"".join(parts)

    def finish(self) -> bytes:
        """Return the last of the content, once the blob's bytes are at their end.

        Raises:
            BlobError: as for ``update``; the blob is cut short, or the content is not the one committed to.
        """
        if self._ended:
            return b""
        if len(self._waiting) < TAG_BYTES or not self._prefix:
            raise BlobTruncatedError(f"the blob ends after {self._chunks} chunks, without its last one")
        rest, is_last = self._pull(bytes(self._waiting))
        if not is_last:
            raise BlobTruncatedError(f"chunk {self._chunks - 1} is short and yet not the last")
        return rest

    def _begin(self) -> bool:
        if len(self._waiting) < _HEADER_BYTES:
            return False
        prefix = bytes(self._waiting[: _PREFIX.size])
        magic, version, chunk_bytes = _PREFIX.unpack(prefix)
        if magic != _MAGIC or version != _FORMAT_VERSION or not 0 < chunk_bytes <= CHUNK_BYTES_MAX:
            raise BlobFormatError("not a record's ciphertext, or of a version not known here")
        header = bytes(self._waiting[_PREFIX.size : _HEADER_BYTES])
        stream.crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, self._key)
        del self._waiting[:_HEADER_BYTES]
        self._prefix, self._sealed_bytes = prefix, chunk_bytes + TAG_BYTES
        return True

    def _pull(self, sealed: bytes) -> tuple[bytes, bool]:
        if self._ended:
            raise BlobChangedError("a chunk follows the one that is marked as the last")
        try:
            plaintext, tag = stream.crypto_secretstream_xchacha20poly1305_pull(self._state, sealed, self._prefix)
        except RuntimeError:
            raise BlobChangedError(f"chunk {self._chunks} does not authenticate") from None
        self._chunks += 1
        self._commitment.update(plaintext)
        self._ended = tag == _FINAL
        if self._ended and not bindings.sodium_memcmp(self._commitment.digest(), self._expected):
            raise CommitmentMismatchError("the content is not the one that the ledger commits to")
        return plaintext, self._ended


def decrypt_stream(data_key: bytes, blob: Iterable[bytes], commitment: bytes) -> Iterator[bytes]:
    """Yield the content of a blob in authenticated pieces; only a normal end means that it is whole and right.

    Raises:
        BlobError: truncated, reordered or changed ciphertext, or a content other than the ledger's commitment.
    """
    opener = BlobOpener(data_key, commitment)
    for part in blob:
        if plaintext := opener.update(part):
            yield plaintext
    if plaintext := opener.finish():
        yield plaintext
