"""Who a member is as custodian, and how it signs its own calls."""

from dataclasses import dataclass, field

from nacl.utils import random

from storage.schema.codec import Value
from storage.schema.transaction import encode_body, encode_envelope, sign_body

NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Custodian:
    """A member's name, its network, and the keys it keeps and serves records with (32 bytes each).

    ``encryption_secrets`` begin with that of ``encryption_key``; those of keys before it follow, because what was
    sealed to them stays sealed to them.
    """

    member: str
    chain_id: bytes
    service_key: bytes
    encryption_key: bytes
    service_seed: bytes = field(repr=False)
    encryption_secrets: tuple[bytes, ...] = field(repr=False)

    def sign(self, not_after_s: int, method: str, arguments: Value) -> tuple[bytes, bytes]:
        """Write a call that the service key signs and this member pays for; returns its body and its envelope."""
        nonce = random(NONCE_BYTES)
        body = encode_body(self.chain_id, nonce, not_after_s, self.member, (self.service_key,), method, arguments)
        return body, encode_envelope(body, (sign_body(body, self.service_seed),))
