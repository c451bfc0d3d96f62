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


_KEY = "2031b5c6a6b3c98eb126ca87467e4d8c2fe41b42dfae286477f654673373a5a7"
_MIXED_KEY = "bc384ae5a7775e140509b2a36b71c103b0c69d17727426aed08971ac6b5bfe95"
_GOOD_R = "3ab614d6c7363fca3395fa056076a10c28b793b15261a2cd1355689c6088ebee"
_IDENTITY = "01" + 31 * "00"
# Key, R, S and the chain's verdict, for the message "caretrace"; tests/vectors/signatures.json tells how each was made.
_EDGE_CASES = (
    (_KEY, _GOOD_R, "acbcbd0102eebec03910c94338cd62693a192243b994cfd51b32ede3c655db0f", True),
    # S + L: a second encoding of the same signature.
    (_KEY, _GOOD_R, "9990b35e1c51d11810adc0e616c7417e3a192243b994cfd51b32ede3c655db1f", False),
    # A key of small order, and under a good key an R of small order: other libraries accept them.
    (_IDENTITY, _IDENTITY, 32 * "00", False),
    (_KEY, _IDENTITY, "3d53b5403d11bcdee18664151bf3b965c0a7259622dbc60463583026ad1e950f", False),
    # R, then the key, with a part of order eight: a check that multiplies by the cofactor accepts them.
    (
        _KEY,
        "f227c8f3f05a8be9e726f4c1db79e473576894de1cd7788520ecddb1c888bca8",
        "749f60e163866be6a8d918548673bc894eb547ba3b72299e6740449241fd2609",
        False,
    ),
    (
        _MIXED_KEY,
        "0fccd229c33ad30fa319565eaad51f42515d0916b39f09af2b59568a90741854",
        "abd14c09e967be3112a868d0778c95ad3993a40e0661458b26f31ff78200a903",
        False,
    ),
    # The same key where the challenge cancels that part: a check that demands keys of prime order refuses it.
    (
        _MIXED_KEY,
        "3b69ee86c9718bc9feb50f435432e75371336892d81271f883f6248e4b308eb2",
        "5fab761576cc02ace2567aba62c948a6361093b979de1b6072d79d80a907dc08",
        True,
    ),
)


def self_test() -> None:
    """Check, before a node starts, that this libsodium keeps the chain's rule on the edge cases.

    Raises:
        SignatureRuleError: it accepts or refuses one of them otherwise.
    """
    for public_key, commitment, answer, expected in _EDGE_CASES:
        try:
            verify_signature(bytes.fromhex(public_key), b"caretrace", bytes.fromhex(commitment + answer))
            accepted = True
        except SignatureError:
            accepted = False
        if accepted is not expected:
            raise SignatureRuleError(f"libsodium decides an edge case otherwise than {SIGNATURE_RULE}")
