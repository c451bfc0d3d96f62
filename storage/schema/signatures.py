"""The signature rule of the chain: Ed25519 as libsodium checks it (genesis names it ``ed25519-libsodium/1``).

Libraries disagree about crafted signatures, so the library is a rule of consensus: one library, pinned exactly,
and tested against known edge cases when a node starts.
"""

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

SIGNATURE_RULE = "ed25519-libsodium/1"


class SignatureError(Exception):
    """A signature does not verify under its key."""

    code = "signature.invalid"


class SignatureRuleError(Exception):
    """This machine's libsodium decides an edge case otherwise than the chain does; it must not vote."""

    code = "signature.rule_differs"


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check one signature (64 bytes) of a raw public key (32 bytes).

    Raises:
        SignatureError: it does not verify, or one of the sizes is wrong.
    """
    if len(public_key) != 32 or len(signature) != 64:
        raise SignatureError("a public key has 32 bytes and a signature 64")
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        raise SignatureError("the signature does not verify under its key") from None


def sign(seed: bytes, message: bytes) -> bytes:
    """Sign with the 32-byte seed of an Ed25519 key; returns 64 bytes (RFC 8032: deterministic)."""
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign(message, secret)[:64]


def public_key_of(seed: bytes) -> bytes:
    """Return the raw public key of a 32-byte Ed25519 seed."""
    return bindings.crypto_sign_seed_keypair(seed)[0]


def is_sound_signing_key(public_key: bytes) -> bool:
    """Tell whether a key may be registered: canonical, on the curve, in the main subgroup, not of small order.

    A key of small order has signatures that verify for messages nobody signed.
    """
    return len(public_key) == 32 and bool(bindings.crypto_core_ed25519_is_valid_point(public_key))


def is_sound_sealing_key(public_key: bytes) -> bool:
    """Tell whether an X25519 key may be registered: canonical and not of small order (RFC 7748, section 6.1).

    With a point of small order the shared secret is known to everyone, so anyone could open what is sealed.
    """
    if len(public_key) != 32 or int.from_bytes(public_key, "little") >= 2**255 - 19:
        return False
    try:
        bindings.crypto_scalarmult(b"\x01" * 32, public_key)
    except (CryptoError, RuntimeError):
        return False
    return True


def self_test() -> None:
    """Check, before a node starts, that this libsodium keeps the chain's rule on the edge cases.

    Raises:
        SignatureRuleError: it accepts or refuses one of them otherwise.
    """
    seed = bytes(range(32))
    good = sign(seed, b"caretrace")
    identity = b"\x01" + bytes(31)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(good[32:], "little") + order
    cases = (
        (public_key_of(seed), good, True),
        (public_key_of(seed), good[:63] + bytes([good[63] ^ 1]), False),
        # The identity as key and commitment, S = 0: other libraries accept it (small order).
        (identity, identity + bytes(32), False),
        # S not reduced modulo the group order: a second encoding of the same signature.
        (public_key_of(seed), good[:32] + scalar.to_bytes(32, "little"), False),
    )
    for public_key, signature, expected in cases:
        try:
            verify_signature(public_key, b"caretrace", signature)
            accepted = True
        except SignatureError:
            accepted = False
        if accepted is not expected:
            raise SignatureRuleError(f"libsodium decides an edge case otherwise than {SIGNATURE_RULE}")
