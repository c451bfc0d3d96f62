"""Transactions written byte by byte and handed to any node, past every check that the command line makes first."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cli.client import Json
from cli.errors import CliError
from storage.schema.calls import Period, Provision, RequestAccess
from storage.schema.codec import Value
from storage.schema.receipt import Proven, verify_receipt
from storage.schema.signatures import public_key_of
from storage.schema.transaction import encode_body, encode_envelope, sign_body, transaction_id
from tests.support.running_network import RunningNetwork

OPEN = Period(None, None)
LIFETIME_S = 300


def provision(**limits: Any) -> Provision:
    """What pia would permit: physicians of south, for treatment, laboratory results; ``limits`` replace fields."""
    fields: dict[str, Any] = dict.fromkeys(("practitioners", "members", "tags", "records", "provisions"), ())
    fields |= {"effect": "permit", "period": OPEN, "years": OPEN, "roles": ("south/physician",)}
    fields |= {"actions": ("read",), "purposes": ("TREAT",), "categories": ("laboratory",)}
    return Provision(**(fields | limits))


@dataclass(frozen=True)
class Caller:
    """Somebody who signs by hand, the network they mean, and the member that pays."""

    seed: bytes
    chain_id: bytes
    payer: str

    @property
    def key(self) -> bytes:
        return public_key_of(self.seed)

    def body(
        self,
        method: str,
        arguments: Value,
        *,
        lifetime_s: int = LIFETIME_S,
        chain_id: bytes | None = None,
        payer: str | None = None,
        signers: Sequence[bytes] | None = None,
    ) -> bytes:
        not_after_s = int(time.time()) + lifetime_s
        nonce = secrets.token_bytes(16)
        return encode_body(
            chain_id or self.chain_id, nonce, not_after_s, payer or self.payer, signers or [self.key], method, arguments
        )

    def signed(self, body: bytes) -> bytes:
        """The envelope of a body, which need not be one."""
        return encode_envelope(body, [sign_body(body, self.seed)])

    def call(self, method: str, arguments: Value, **other: Any) -> bytes:
        return self.signed(self.body(method, arguments, **other))


def caller(network: RunningNetwork, name: str, payer: str) -> Caller:
    """Somebody of the network's wallet."""
    return Caller(network.seed(name), network.genesis.chain_id, payer)


def refusal_of(network: RunningNetwork, node: str, envelope: bytes) -> str:
    """Hand raw bytes to a node; the code by which it refuses them, or empty if it takes them."""
    try:
        network.node(node).post_msgpack("/v1/transactions", [envelope], Json)
    except CliError as error:
        return error.code
    return ""


def id_of(envelope: bytes) -> str:
    """The id of the transaction in an envelope."""
    body, _ = msgspec.msgpack.decode(envelope)
    return transaction_id(body).hex()


def committed(network: RunningNetwork, node: str, tx_id: str, wait_s: float = 20) -> Proven:
    """What the receipt that a node gives proves, once the transaction is committed there."""
    return verify_receipt(network.node(node).get_bytes(f"/v1/transactions/{tx_id}/receipt", wait_s), network.genesis)


def outcome_of(network: RunningNetwork, node: str, envelope: bytes) -> str:
    """Hand an envelope to a node that must take it; what the ledger says of it in the end."""
    assert refusal_of(network, node, envelope) == ""
    return committed(network, node, id_of(envelope)).outcome.code


def counted(network: RunningNetwork, node: str, name: str) -> int:
    """One of a node's own counters."""
    text = network.node(node).get_bytes("/metrics").decode()
    lines = (line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    return int(float(next(value for key, value in lines if key == f"caretrace_{name}")))


def order(network: RunningNetwork, node: str = "east") -> Proven:
    """Have a call ordered that changes nothing, through an honest node."""
    return ordered(network, node, harmless(network))


def harmless(network: RunningNetwork) -> bytes:
    """A good transaction that the contract will refuse: ben asks for a record that there is not."""
    return caller(network, "ben", "south").call("access.request", RequestAccess(bytes(32), "TREAT"))


def ordered(network: RunningNetwork, node: str, envelope: bytes) -> Proven:
    """Hand an envelope to a node that must take it; what its receipt proves."""
    assert refusal_of(network, node, envelope) == ""
    return committed(network, node, id_of(envelope))
