"""A second good signature over the same message: RFC 8032 fixes the nonce, but no verifier can tell."""

from hashlib import sha512

from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from storage.schema.signatures import public_key_of
from storage.schema.transaction import Transaction, decode_transaction, encode_envelope, signing_preimage
from tests.support.small_ledger import service

_ORDER = 2**252 + 27742317777372353535851937790883648493


def second_signature(seed: bytes, message: bytes, nonce: int = 7) -> bytes:
    """Sign with a nonce of one's own choice (RFC 8032, 5.1.6, from step 3 on)."""
    clamped = bytearray(sha512(seed).digest()[:32])
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    commitment = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    challenge = sha512(commitment + public_key_of(seed) + message).digest()
    answer = nonce + int.from_bytes(challenge, "little") * int.from_bytes(clamped, "little")
    return commitment + (answer % _ORDER).to_bytes(32, "little")


def twin_of(transaction: Transaction) -> Transaction:
    """The same call under another signature of the member's, as good as the first."""
    first, _ = transaction.signatures
    other = second_signature(service("north").seed, signing_preimage(transaction.body_bytes))
    return decode_transaction(encode_envelope(transaction.body_bytes, [first, other]))
