"""Raw bytes to the socket of every node: what is no good transaction leaves no trace, whichever node it is given."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cli.client import Json
from cli.errors import CliError
from storage.schema.calls import Grant, RequestAccess
from storage.schema.transaction import encode_envelope, sign_body, signing_preimage
from tests.support.raw_calls import Caller, caller, committed, counted, id_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, until
from tests.support.vectors import vectors

pytestmark = pytest.mark.cluster

GRANT = Grant(provision(), None)
# The neutral point of edwards25519, of order 1: whoever is known by it as a key could have anyone sign.
SMALL_ORDER_KEY = b"\x01" + bytes(31)
BATCH_BYTES_MAX = 4 << 20

Made = Callable[[RunningNetwork, Caller], bytes]


def wrong_key(network: RunningNetwork, pia: Caller) -> bytes:
    return encode_envelope(body := pia.body("consent.grant", GRANT), [sign_body(body, network.seed("ben"))])


def changed_byte(_: RunningNetwork, pia: Caller) -> bytes:
    envelope = bytearray(pia.call("consent.grant", GRANT))
    envelope[envelope.index(b"TREAT")] ^= 0x20
    return bytes(envelope)


def changed_signature(_: RunningNetwork, pia: Caller) -> bytes:
    envelope = bytearray(pia.call("consent.grant", GRANT))
    envelope[-1] ^= 1
    return bytes(envelope)


def small_order_key(_: RunningNetwork, pia: Caller) -> bytes:
    # With the same point as R, and 0 as S, this holds for any message: other libraries let it pass.
    forged, body = SMALL_ORDER_KEY + bytes(32), pia.body("consent.grant", GRANT, signers=[SMALL_ORDER_KEY])
    Ed25519PublicKey.from_public_bytes(SMALL_ORDER_KEY).verify(forged, signing_preimage(body))
    return encode_envelope(body, [forged])


def of_another_network(*_: object) -> bytes:
    """A transaction of another network's, as it stands on the ledger there."""
    return bytes.fromhex(vectors("transactions")[0]["envelope"])


def with_arguments(raw: bytes) -> Made:
    """A well signed call whose arguments are these bytes."""

    def make(_: RunningNetwork, pia: Caller) -> bytes:
        fields = msgspec.msgpack.decode(pia.body("access.request", RequestAccess(bytes(32), "TREAT")))
        return pia.signed(msgspec.msgpack.encode([*fields[:-1], msgspec.Raw(raw)]))

    return make


def longer_integer(_: RunningNetwork, pia: Caller) -> bytes:
    # The version, 0, in the two bytes that no encoder of ours would take for it.
    body = pia.body("consent.grant", GRANT)
    return pia.signed(body[:1] + b"\xcc\x00" + body[2:])


def without_signature(_: RunningNetwork, pia: Caller) -> bytes:
    return encode_envelope(pia.body("consent.grant", GRANT), [])


REFUSED: dict[str, tuple[Made, str]] = {
    "a wrong key": (wrong_key, "signature.invalid"),
    "a changed byte": (changed_byte, "signature.invalid"),
    "a changed signature": (changed_signature, "signature.invalid"),
    "a small-order public key": (small_order_key, "signature.invalid"),
    "no signature": (without_signature, "bytes.malformed"),
    "an expired not_after": (lambda _, pia: pia.call("consent.grant", GRANT, lifetime_s=-2), "tx.expired"),
    "a far-future not_after": (
        lambda _, pia: pia.call("consent.grant", GRANT, lifetime_s=24 * 3600 + 60),
        "tx.too_far_future",
    ),
    "a replay from another network": (of_another_network, "tx.other_network"),
    "an unknown method": (lambda _, pia: pia.call("consent.gift", GRANT), "tx.method_unknown"),
    "a payer who is no member": (lambda _, pia: pia.call("consent.grant", GRANT, payer="nowhere"), "tx.payer_unknown"),
    "a payer who did not agree": (lambda _, pia: pia.call("consent.grant", GRANT, payer="east"), "tx.payer_unbound"),
    "trailing bytes": (lambda _, pia: pia.call("consent.grant", GRANT) + b"\xc0", "bytes.malformed"),
    "trailing bytes in the body": (
        lambda _, pia: pia.signed(pia.body("consent.grant", GRANT) + b"\xc0"),
        "bytes.malformed",
    ),
    "a duplicate map key": (
        with_arguments(b"\x82\xa6record\xc4\x20" + bytes(32) + b"\xa6record\xc4\x20" + bytes(32)),
        "bytes.malformed",
    ),
    "a non-minimal integer": (longer_integer, "bytes.malformed"),
    "nesting 1,000 deep": (lambda *_: b"\x91" * 1000 + b"\xc0", "bytes.malformed"),
    "nesting 1,000 deep in the arguments": (with_arguments(b"\x91" * 1000 + b"\xc0"), "bytes.malformed"),
    "a field over its limit": (
        lambda _, pia: pia.call("consent.grant", Grant(provision(purposes=("TREAT",) * 65), None)),
        "bytes.malformed",
    ),
    "an empty purpose": (
        lambda _, pia: pia.call("consent.grant", Grant(provision(purposes=("",)), None)),
        "bytes.malformed",
    ),
    "more bytes than a transaction may have": (
        lambda _, pia: pia.call("consent.grant", Grant(provision(records=(bytes(32),) * 500), None)),
        "bytes.too_large",
    ),
    "no bytes at all": (lambda *_: b"", "bytes.malformed"),
}


@pytest.fixture(scope="module")
def pia(network: RunningNetwork) -> Caller:
    return caller(network, "pia", "north")


def test_a_bad_transaction_is_refused_by_every_node_and_leaves_no_trace(network: RunningNetwork, pia: Caller) -> None:
    before = [network.status(name)["block_hash"] for name in network.names]

    said = {
        (what, name): refusal_of(network, name, make(network, pia))
        for what, (make, _) in REFUSED.items()
        for name in network.names
    }

    assert said == {(what, name): code for what, (_, code) in REFUSED.items() for name in network.names}
    assert [network.status(name)["block_hash"] for name in network.names] == before
    assert not any(network.status(name)["mempool"] for name in network.names)


def test_the_good_transactions_of_a_batch_are_taken_and_the_bad_ones_named(
    network: RunningNetwork, pia: Caller
) -> None:
    good = [pia.call("consent.grant", GRANT) for _ in range(2)]

    batch = [good[0], changed_byte(network, pia), b"\xc1", good[1]]
    answer = network.node("west").post_msgpack("/v1/transactions", batch, Json)

    assert answer["transactions"] == [id_of(envelope) for envelope in good]
    assert [(refused["index"], refused["code"]) for refused in answer["refused"]] == [
        (1, "signature.invalid"),
        (2, "bytes.malformed"),
    ]
    assert [committed(network, "east", tx_id).outcome.code for tx_id in answer["transactions"]] == ["ok", "ok"]


def test_a_replay_is_refused_at_once_and_after_a_second_on_every_node_and_counts_once(
    network: RunningNetwork, pia: Caller
) -> None:
    envelope = pia.call("consent.grant", GRANT)
    assert refusal_of(network, "north", envelope) == ""
    at_once = refusal_of(network, "north", envelope)
    proven = committed(network, "north", id_of(envelope))
    until(network.is_level)

    everywhere = [refusal_of(network, name, envelope) for name in network.names]
    later_than = proven.header.time_ms + 1000
    until(lambda: time.time() * 1000 > later_than)
    after_a_second = [refusal_of(network, name, envelope) for name in network.names]

    # At once it may still wait for its block: then the same id is answered again.
    assert at_once in ("", "tx.replayed")
    assert everywhere == after_a_second == ["tx.replayed"] * 4
    assert [committed(network, name, id_of(envelope)).header.height for name in network.names] == [
        proven.header.height
    ] * 4


@pytest.mark.parametrize("name", ["north", "south", "east", "west"])
def test_a_body_over_the_limit_is_refused_by_every_node_declared_or_not(network: RunningNetwork, name: str) -> None:
    head = b"POST /v1/transactions HTTP/1.1\r\nhost: node\r\ncontent-type: application/msgpack\r\n"
    pieces = b"10000\r\n" + bytes(0x10000) + b"\r\n"

    declared = exchange(network, name, head + b"content-length: %d\r\n\r\n" % (BATCH_BYTES_MAX + 1), b"")
    undeclared = exchange(network, name, head + b"transfer-encoding: chunked\r\n\r\n", pieces * 65)

    for answer in (declared, undeclared):
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"http.body_too_large"' in answer
    assert network.is_ready(name)


def exchange(network: RunningNetwork, name: str, head: bytes, body: bytes) -> bytes:
    """Send a node bytes as they are, and read until it has answered."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(str(network.place(name).socket))
        client.sendall(head)
        # It need not take what it has refused already.
        with suppress(BrokenPipeError):
            client.sendall(body)
        answer = b""
        while b"http.body_too_large" not in answer and (part := client.recv(65536)):
            answer += part
        return answer


def test_a_batch_of_more_envelopes_than_it_may_have_is_refused(network: RunningNetwork) -> None:
    with pytest.raises(CliError) as refused:
        network.node("west").post_msgpack("/v1/transactions", [b"\xc0"] * 501, Json)

    assert refused.value.code == "bytes.malformed"


def test_what_is_refused_is_counted(network: RunningNetwork, pia: Caller) -> None:
    before = counted(network, "east", "admissions_refused_total")

    refusal_of(network, "east", changed_byte(network, pia))

    assert counted(network, "east", "admissions_refused_total") == before + 1
