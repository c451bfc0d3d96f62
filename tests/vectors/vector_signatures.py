"""Signatures and keys on the edge (docs/spec/encoding.md, Signatures): where libraries disagree, this is the rule.

Scalars are taken modulo L; points are added with libsodium's own group operations, so that each case is built from
what makes it a case.
"""

from collections.abc import Callable
from hashlib import sha512
from typing import Any, NamedTuple

from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp
from vector_primitives import Key, named_bytes, sealing_public, signing_key

L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
IDENTITY = b"\x01" + bytes(31)
ORDER_EIGHT = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
MESSAGE = b"caretrace"
SIGNER = signing_key("signer on the edge")


class Case(NamedTuple):
    """A signature, and whether the rule accepts it."""

    why: str
    public: bytes
    message: bytes
    signature: bytes
    valid: bool


def scalar(number: int) -> bytes:
    return (number % L).to_bytes(32, "little")


def base_times(number: int) -> bytes:
    return crypto_scalarmult_ed25519_base_noclamp(scalar(number))


def secret_scalar(key: Key) -> int:
    clamped = bytearray(sha512(key.seed).digest()[:32])
    clamped[0] &= 248
    clamped[31] &= 127
    clamped[31] |= 64
    return int.from_bytes(clamped, "little")


def challenge(commitment: bytes, public: bytes) -> int:
    return int.from_bytes(sha512(commitment + public + MESSAGE).digest(), "little") % L


def answered(commitment: bytes, public: bytes, number: int) -> bytes:
    """The signature that one who knows the scalars makes: R and S = number + challenge · secret."""
    return commitment + scalar(number + challenge(commitment, public) * secret_scalar(SIGNER))


def nonce_where(accepts: Callable[[int], bool]) -> int:
    number = int.from_bytes(named_bytes("nonce on the edge"), "little")
    while not accepts(number):
        number += 1
    return number


def cases() -> list[Case]:
    good = SIGNER.sign(MESSAGE)
    commitment, answer = good[:32], int.from_bytes(good[32:], "little")
    number = int.from_bytes(named_bytes("nonce on the edge"), "little")
    mixed_key = crypto_core_ed25519_add(SIGNER.public, ORDER_EIGHT)
    unlucky = nonce_where(lambda n: challenge(base_times(n), mixed_key) % 8 != 0)
    lucky = nonce_where(lambda n: challenge(base_times(n), mixed_key) % 8 == 0)
    mixed_commitment = crypto_core_ed25519_add(base_times(number), ORDER_EIGHT)
    other = signing_key("another signer")
    return [
        Case("as RFC 8032 has it", SIGNER.public, MESSAGE, good, True),
        Case("of an empty message", SIGNER.public, b"", SIGNER.sign(b""), True),
        Case("with a nonce of the signer's choice", SIGNER.public, MESSAGE, chosen(number), True),
        Case("of another message", SIGNER.public, b"caretrace!", good, False),
        Case("under another key", other.public, MESSAGE, good, False),
        Case("R changed by a bit", SIGNER.public, MESSAGE, bytes([good[0] ^ 1]) + good[1:], False),
        Case("S changed by a bit", SIGNER.public, MESSAGE, good[:32] + bytes([good[32] ^ 1]) + good[33:], False),
        Case("S + L, the same scalar", SIGNER.public, MESSAGE, commitment + (answer + L).to_bytes(32, "little"), False),
        Case("S with its highest bit set", SIGNER.public, MESSAGE, good[:63] + bytes([good[63] | 128]), False),
        Case("nothing but zeros", SIGNER.public, MESSAGE, bytes(64), False),
        Case("key and R the identity, S zero", IDENTITY, MESSAGE, IDENTITY + bytes(32), False),
        Case("key of order eight, R the identity, S zero", ORDER_EIGHT, MESSAGE, IDENTITY + bytes(32), False),
        Case("R the identity, S fits", SIGNER.public, MESSAGE, answered(IDENTITY, SIGNER.public, 0), False),
        Case("R of order eight, S fits", SIGNER.public, MESSAGE, answered(ORDER_EIGHT, SIGNER.public, 0), False),
        Case(
            "R with a part of order eight: a cofactored check accepts it",
            SIGNER.public,
            MESSAGE,
            answered(mixed_commitment, SIGNER.public, number),
            False,
        ),
        Case(
            "key with a part of order eight: a cofactored check accepts it",
            mixed_key,
            MESSAGE,
            answered(base_times(unlucky), mixed_key, unlucky),
            False,
        ),
        Case(
            "key with a part of order eight, which this challenge cancels (such a key is never registered)",
            mixed_key,
            MESSAGE,
            answered(base_times(lucky), mixed_key, lucky),
            True,
        ),
        Case("a signature of 63 bytes", SIGNER.public, MESSAGE, good[:63], False),
        Case("a key of 31 bytes", SIGNER.public[:31], MESSAGE, good, False),
    ]


def chosen(number: int) -> bytes:
    return answered(base_times(number), SIGNER.public, number)


def little(number: int) -> bytes:
    return number.to_bytes(32, "little")


SMALL_ORDER_25519 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)


def signing_keys() -> list[tuple[str, bytes, bool]]:
    order_eight_too = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    return [
        ("a key", SIGNER.public, True),
        ("the identity", IDENTITY, False),
        ("the identity with its sign bit set", IDENTITY[:31] + b"\x80", False),
        ("order two", little(P - 1), False),
        ("order four", bytes(32), False),
        ("order four, negative", bytes(31) + b"\x80", False),
        ("order eight", ORDER_EIGHT, False),
        ("order eight, negative", ORDER_EIGHT[:31] + bytes([ORDER_EIGHT[31] | 128]), False),
        ("the other of order eight", bytes.fromhex(order_eight_too), False),
        ("the other of order eight, negative", bytes.fromhex(order_eight_too[:-2] + "85"), False),
        ("y not reduced: p", little(P), False),
        ("y not reduced: p + 1", little(P + 1), False),
        ("no point of the curve", b"\x02" + bytes(31), False),
        ("a part of order eight", crypto_core_ed25519_add(SIGNER.public, ORDER_EIGHT), False),
        ("31 bytes", SIGNER.public[:31], False),
        ("33 bytes", SIGNER.public + b"\x00", False),
    ]


def sealing_keys() -> list[tuple[str, bytes, bool]]:
    return [
        ("a key", sealing_public("sealing on the edge"), True),
        ("the base point", little(9), True),
        ("zero", bytes(32), False),
        ("one", little(1), False),
        *((f"order eight, {text[:4]}…", bytes.fromhex(text), False) for text in SMALL_ORDER_25519),
        ("p - 1", little(P - 1), False),
        ("p", little(P), False),
        ("p + 1", little(P + 1), False),
        ("p + 9, the base point not reduced", little(P + 9), False),
        ("the base point with its highest bit set", little(9 + 2**255), False),
        ("31 bytes", little(9)[:31], False),
    ]


def signatures() -> dict[str, Any]:
    return {
        "rule": "ed25519-libsodium/1",
        "signatures": [
            {
                "why": case.why,
                "public": case.public.hex(),
                "message": case.message.hex(),
                "signature": case.signature.hex(),
                "valid": case.valid,
            }
            for case in cases()
        ],
        "signing_keys": [{"why": why, "key": key.hex(), "sound": sound} for why, key, sound in signing_keys()],
        "sealing_keys": [{"why": why, "key": key.hex(), "sound": sound} for why, key, sound in sealing_keys()],
    }
