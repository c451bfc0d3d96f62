"""Names made from keys: ``did:key`` of an Ed25519 inception key, as text and as the raw 32 bytes of the ledger.

The text is ``did:key:z`` and base58btc of the multicodec prefix 0xed01 with the key (W3C did:key method, 3.1).
A DID stays what it is when the keys of its person are rotated: which keys speak for it, the ledger says.
"""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_PREFIX = "did:key:z"
_ED25519 = b"\xed\x01"
_KEY_BYTES = 32
_TEXT_LENGTH_MAX = 64


class DidError(ValueError):
    """A text is not the ``did:key`` of an Ed25519 key."""

    code = "did.malformed"


def base58_encode(data: bytes) -> str:
    """Write bytes in base58btc; each leading zero byte is a leading ``1``."""
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _ALPHABET[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\x00"))) + digits


def base58_decode(text: str) -> bytes:
    """Read base58btc; the caller bounds the length, since the work grows with its square.

    Raises:
        DidError: a character that base58btc does not have.
    """
    number = 0
    for character in text:
        if character not in _DIGITS:
            raise DidError("a character that base58btc does not have")
        number = number * 58 + _DIGITS[character]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode_did(key: bytes) -> str:
    """Return the DID of a raw Ed25519 public key."""
    assert len(key) == _KEY_BYTES, "a DID names an Ed25519 key of 32 bytes"
    return _PREFIX + base58_encode(_ED25519 + key)


def parse_did(text: str) -> bytes:
    """Return the raw Ed25519 public key that a DID is made from.

    Raises:
        DidError: another method, another kind of key, or not the one spelling of this key.
    """
    if not text.startswith(_PREFIX) or len(text) > _TEXT_LENGTH_MAX:
        raise DidError("a DID here begins with did:key:z and names an Ed25519 key")
    raw = base58_decode(text.removeprefix(_PREFIX))
    key = raw.removeprefix(_ED25519)
    if len(key) != _KEY_BYTES or encode_did(key) != text:
        raise DidError("not the did:key of an Ed25519 key")
    return key


def is_did(text: str) -> bool:
    """Tell a DID, well-formed or not, from a name."""
    return text.startswith("did:")
