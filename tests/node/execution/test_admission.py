from typing import Any

import pytest

from node.contracts.entries import load_member
from node.execution.admission import AdmissionError, admit, check_payer, payer_refusal, unverifiable
from storage.schema.calls import (
    LIST_LENGTH_MAX,
    METHODS,
    Admit,
    Grant,
    Propose,
    RegisterPatient,
    Remove,
    RequestAccess,
    SetRole,
    Value,
)
from storage.schema.codec import encode
from storage.schema.transaction import LIFETIME_S_MAX, decode_transaction, encode_body, encode_envelope
from storage.schema.transaction import sign_body as sign
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, of_member, service
from tests.support.story import Story, World

PIA = Actor("pia")
REGISTER = RegisterPatient(PIA.sealing_key)


def refusal(envelope: bytes, world: World, *, now_s: int | None = None, verify: bool = False) -> AdmissionError:
    with pytest.raises(AdmissionError) as caught:
        admit(envelope, world.genesis.chain_id, world.time_s if now_s is None else now_s, verify=verify)
    return caught.value


def envelope_of(world: World, method: str, arguments: Value, *, chain_id: bytes | None = None) -> bytes:
    chain = world.genesis.chain_id if chain_id is None else chain_id
    body = encode_body(chain, bytes(16), world.time_s + 60, "north", [PIA.key], method, arguments)
    return encode_envelope(body, [sign(body, PIA.seed)])


def test_a_good_envelope_is_admitted_as_its_transaction() -> None:
    world = World()
    envelope = envelope_of(world, "identity.register_patient", REGISTER)

    transaction = admit(envelope, world.genesis.chain_id, world.time_s, verify=True)

    assert transaction.envelope == envelope


def test_an_envelope_of_another_network_is_refused() -> None:
    world = World()

    error = refusal(envelope_of(world, "identity.register_patient", REGISTER, chain_id=bytes(32)), world)

    assert (error.code, error.field) == ("tx.other_network", "chain_id")


def test_the_window_holds_on_both_of_its_ends_and_not_beyond() -> None:
    world = World()
    transaction = world.sign("identity.register_patient", REGISTER, [PIA], not_after_s=world.time_s)
    last, first = world.time_s, world.time_s - LIFETIME_S_MAX
    chain_id = world.genesis.chain_id

    assert admit(transaction.envelope, chain_id, last).id == transaction.id
    assert admit(transaction.envelope, chain_id, first).id == transaction.id
    assert refusal(transaction.envelope, world, now_s=last + 1).code == "tx.expired"
    assert refusal(transaction.envelope, world, now_s=first - 1).code == "tx.too_far_future"


def test_a_changed_byte_of_a_signature_is_refused_where_signatures_are_asked_for() -> None:
    world = World()
    envelope = envelope_of(world, "identity.register_patient", REGISTER)
    forged = envelope[:-1] + bytes([envelope[-1] ^ 1])

    error = refusal(forged, world, verify=True)

    assert (error.code, error.field) == ("signature.invalid", "signatures")
    assert error.hint


def test_of_many_the_ones_that_do_not_verify_are_named() -> None:
    world = World()
    good = world.sign("identity.register_patient", REGISTER, [PIA])
    forged = decode_transaction(good.envelope[:-1] + bytes([good.envelope[-1] ^ 1]))

    assert unverifiable([good, forged, good, forged]) == (1, 3)


@pytest.mark.parametrize(
    "change",
    [
        Remove("North"),
        SetRole("north", "king"),
        Admit("north", b"short", b"k" * 32, b"k" * 32, b"k" * 32, ()),
        Admit("north", *[b"k" * 32] * 4, ("192.0.2.1:4001",)),
    ],
)
def test_a_change_that_nobody_could_make_is_refused_by_the_name_of_its_field(change: Any) -> None:
    world = World()

    error = refusal(envelope_of(world, "network.propose", Propose(change, None)), world)

    assert (error.code, error.field) == ("bytes.malformed", "change")


def malformed_grant(path: str) -> Grant:
    """A grant that breaks one limit; such structs can be built, and must not be decoded."""
    below = provision("deny", categories=("x" * 40,))
    return {
        "practitioners": Grant(provision(practitioners=(b"k" * 32,) * (LIST_LENGTH_MAX + 1)), None),
        "purposes": Grant(provision(purposes=("TREAT", "")), None),
        "below": Grant(provision(provisions=(below,)), None),
        "effect": Grant(provision("maybe"), None),
        "uses": Grant(provision(), -1),
    }[path]


@pytest.mark.parametrize(
    ("case", "field"),
    [
        ("practitioners", "provision.practitioners"),
        ("purposes", "provision.purposes"),
        ("below", "provision.provisions.categories"),
        ("effect", "provision.effect"),
        ("uses", "uses"),
    ],
)
def test_a_value_over_its_limit_is_refused_by_the_name_of_its_field(case: str, field: str) -> None:
    world = World()

    error = refusal(envelope_of(world, "consent.grant", malformed_grant(case)), world)

    assert (error.code, error.field) == ("bytes.malformed", field)


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        pytest.param(b"", "bytes.malformed", id="nothing"),
        pytest.param(b"\x91" * 1000, "bytes.malformed", id="nested 1000 deep"),
        pytest.param(bytes(20_000), "bytes.too_large", id="too large"),
    ],
)
def test_bytes_that_are_no_envelope_are_refused(envelope: bytes, code: str) -> None:
    assert refusal(envelope, World()).code == code


def test_an_unknown_method_is_refused_by_name() -> None:
    world = World()

    error = refusal(envelope_of(world, "consent.steal", REGISTER), world)

    assert (error.code, error.field) == ("tx.method_unknown", "method")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_method_takes_the_arguments_of_nothing(name: str) -> None:
    world = World()
    raw = encode_body(world.genesis.chain_id, bytes(16), world.time_s, "north", [PIA.key], name, REGISTER)
    empty = raw.replace(encode(REGISTER), encode(()))

    assert refusal(encode_envelope(empty, [sign(empty, PIA.seed)]), world).code == "bytes.malformed"


@pytest.mark.parametrize(
    ("signers", "payer", "code"),
    [
        pytest.param([Actor("pia")], "north", "", id="the sponsor of the first signer"),
        pytest.param([Actor("ben")], "south", "", id="the member that enrolled the first signer"),
        pytest.param([Actor("new"), service("west")], "west", "", id="a member whose service key signed"),
        pytest.param([of_member("west", "organisation")], "west", "", id="a member whose cold key signed"),
        pytest.param([Actor("pia")], "west", "tx.payer_unbound", id="another member"),
        pytest.param([Actor("new"), Actor("pia")], "north", "tx.payer_unbound", id="the second signer's sponsor"),
        pytest.param([of_member("west", "node")], "west", "tx.payer_unbound", id="a node key binds nobody"),
        pytest.param([Actor("pia")], "moon", "tx.payer_unknown", id="no member"),
    ],
)
def test_a_payer_is_bound_by_a_signature(signers: list[Actor], payer: str, code: str) -> None:
    story = Story()

    transaction = story.sign("access.request", RequestAccess(story.record, "TREAT"), signers, payer)

    payer_entry = load_member(story.ledger.state, payer)
    assert payer_refusal(transaction.body, payer_entry, story.ledger.state) == code


def test_a_replaced_key_binds_no_payer() -> None:
    story = Story()
    transaction = story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.pia])
    story.replace_key(story.pia)

    payer = load_member(story.ledger.state, "north")
    assert payer_refusal(transaction.body, payer, story.ledger.state) == "tx.payer_unbound"


def test_an_unbound_payer_is_refused_by_the_name_of_its_field() -> None:
    story = Story()
    transaction = story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.pia], "west")

    with pytest.raises(AdmissionError) as caught:
        check_payer(transaction, story.ledger.state)

    assert (caught.value.code, caught.value.field) == ("tx.payer_unbound", "payer")
