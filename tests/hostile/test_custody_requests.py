"""With the node key of the requester's member and none of its checks: the custodian gives no key that is not due."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from cli.client import Json
from node.custody.wire import (
    CONTENT_ANSWER,
    CONTENT_SERVICE,
    KEY_ANSWER,
    KEY_SERVICE,
    Chunk,
    ContentRequest,
    KeyRequest,
    ReleasedKey,
    Withheld,
)
from storage.schema.calls import Grant, RequestAccess, Revoke
from storage.schema.codec import encode, parse_typed_id
from storage.schema.events import AccessPermitted, AccessServed
from tests.support.hostile_member import HostileMember
from tests.support.hostile_network import GUESTS, HONEST, frozen, guest
from tests.support.hostile_validator import HostileValidator
from tests.support.raw_calls import caller, committed, id_of, ordered, provision, refusal_of
from tests.support.running_network import until

pytestmark = pytest.mark.cluster

CUSTODIAN = "north"


@dataclass(frozen=True)
class Permit:
    """A permit that stands on the ledger since a height, and the consent that it was given under."""

    access: bytes
    height: int
    consent: bytes


@pytest.fixture(scope="module")
def record(bad: HostileValidator) -> bytes:
    """A record of pia's at north; and a second hospital's physician, kim of west."""
    bad.network.ask("key", "new", "kim", "--kind", "practitioner", "--no-passphrase")
    bad.network.ask("practitioner", "enrol", "kim", "--role", "physician", "--node", "west")
    return parse_typed_id("r", bad.network.add_record())


def permitted(bad: HostileValidator, record: bytes, who: str = "ben", member: str = "south") -> Permit:
    """Have pia permit and a physician ask, by raw calls."""
    root = provision(roles=(f"{member}/physician",))
    grant = caller(bad.network, "pia", "north").call("consent.grant", Grant(root, None))
    request = caller(bad.network, who, member).call("access.request", RequestAccess(record, "TREAT"))
    bad.network.node("west").post_msgpack("/v1/transactions", [grant, request], Json)
    proven = committed(bad.network, "west", id_of(request))
    (event,) = proven.outcome.events
    assert isinstance(event, AccessPermitted)
    assert event.consent is not None
    # It may be an earlier one that stands yet: the permit lives and dies with that.
    return Permit(event.access, proven.header.height, event.consent)


@pytest.fixture
def permit(bad: HostileValidator, record: bytes) -> Permit:
    """A permit for ben of south."""
    return permitted(bad, record)


def revocation(bad: HostileValidator, permit: Permit) -> bytes:
    return caller(bad.network, "pia", "north").call("consent.revoke", Revoke(permit.consent))


def asked_for_content(member: HostileMember, permit: Permit, offset: int = 0) -> Chunk | Withheld:
    request = ContentRequest(permit.access, permit.height, offset)
    return CONTENT_ANSWER.decode(member.ask(CUSTODIAN, CONTENT_SERVICE, encode(request)))


def asked_for_key(member: HostileMember, permit: Permit) -> ReleasedKey | Withheld:
    request = KeyRequest(permit.access, permit.height)
    return KEY_ANSWER.decode(member.ask(CUSTODIAN, KEY_SERVICE, encode(request)))


def both_withheld(bad: HostileValidator, member: HostileMember, permit: Permit) -> str:
    """Ask for ciphertext and key, neither of which may be given; the code, which the custodian's log has twice."""
    content, key = asked_for_content(member, permit), asked_for_key(member, permit)
    assert isinstance(content, Withheld)
    assert isinstance(key, Withheld)
    assert content.code == key.code
    line = f"withheld from {member.name}, who asked for access {permit.access.hex()}: {key.code}"
    assert bad.network.log(CUSTODIAN).count(line) == 2
    return key.code


def test_nothing_is_given_without_a_permit(bad: HostileValidator) -> None:
    assert both_withheld(bad, bad.member, Permit(b"\x01" * 32, 1, b"")) == "access.not_found"


def test_nothing_is_given_under_the_permit_of_another_members_reader(bad: HostileValidator, record: bytes) -> None:
    permit = permitted(bad, record, "kim", "west")

    assert both_withheld(bad, bad.member, permit) == "access.not_found"


def test_a_member_without_readers_gets_nothing_under_the_permit_of_another(
    bad: HostileValidator, permit: Permit
) -> None:
    with guest(bad.network, GUESTS[2], CUSTODIAN) as member:
        assert both_withheld(bad, member, permit) == "access.not_found"


def test_the_key_is_given_only_when_the_ledger_says_that_it_is_served(bad: HostileValidator, permit: Permit) -> None:
    network = bad.network
    assert isinstance(asked_for_content(bad.member, permit), Chunk)

    with ThreadPoolExecutor(1) as threads:
        # Without a third honest node nothing is committed, so nothing may be given.
        with frozen(network, "east"):
            waiting = threads.submit(asked_for_key, bad.member, permit)
            until(lambda: network.status(CUSTODIAN)["mempool"])
            given_before = waiting.done()
        key, again = waiting.result(), asked_for_key(bad.member, permit)

    assert not given_before
    assert isinstance(key, ReleasedKey)
    assert isinstance(again, ReleasedKey)
    assert again.served == key.served
    for name in HONEST:
        served = committed(network, name, key.served.hex())
        assert (served.header.height, served.outcome.code) == (key.height, "ok")
        (event,) = served.outcome.events
        assert isinstance(event, AccessServed)
        assert (event.access, event.member, event.custodian) == (permit.access, "south", CUSTODIAN)


def test_nothing_is_given_after_the_revocation(bad: HostileValidator, permit: Permit) -> None:
    ordered(bad.network, CUSTODIAN, revocation(bad, permit))

    assert both_withheld(bad, bad.member, permit) == "consent.denied"


def test_a_key_that_was_given_is_not_given_again_after_the_revocation(bad: HostileValidator, permit: Permit) -> None:
    assert isinstance(asked_for_key(bad.member, permit), ReleasedKey)

    ordered(bad.network, CUSTODIAN, revocation(bad, permit))

    assert both_withheld(bad, bad.member, permit) == "consent.denied"


def test_a_key_is_not_given_when_the_revocation_overtakes_the_serving(bad: HostileValidator, permit: Permit) -> None:
    network, end = bad.network, revocation(bad, permit)

    with ThreadPoolExecutor(1) as threads:
        with frozen(network, "east"):
            assert refusal_of(network, CUSTODIAN, end) == ""
            waiting = threads.submit(asked_for_key, bad.member, permit)
            until(lambda: network.status(CUSTODIAN)["mempool"] == 2)
        answer = waiting.result()

    assert committed(network, CUSTODIAN, id_of(end)).outcome.code == "ok"
    assert isinstance(answer, Withheld)
    assert answer.code == "consent.denied"
    assert f"who asked for access {permit.access.hex()}: consent.denied" in network.log(CUSTODIAN)


def test_a_member_that_holds_no_record_gives_none(bad: HostileValidator, permit: Permit) -> None:
    request = encode(KeyRequest(permit.access, permit.height))

    answer = KEY_ANSWER.decode(bad.member.ask("west", KEY_SERVICE, request))

    assert isinstance(answer, Withheld)
    assert answer.code == "access.not_custodian"


@pytest.mark.parametrize("offset", [10_000, 2**40, 2**62, 2**63 - 1])
def test_beyond_its_end_a_record_has_no_bytes_however_far(bad: HostileValidator, permit: Permit, offset: int) -> None:
    answer = asked_for_content(bad.member, permit, offset)

    assert isinstance(answer, Chunk)
    assert (answer.size_bytes > 0, answer.data) == (True, b"")


@pytest.mark.parametrize("service", [CONTENT_SERVICE, KEY_SERVICE])
def test_a_request_that_cannot_be_read_gets_nothing_and_is_logged(bad: HostileValidator, service: str) -> None:
    line = f"withheld from {bad.member.name}, who asked for nothing readable: bytes.malformed"
    before = bad.network.log(CUSTODIAN).count(line)

    answer = KEY_ANSWER.decode(bad.member.ask(CUSTODIAN, service, b"\xc1" * 40))

    assert isinstance(answer, Withheld)
    assert answer.code == "bytes.malformed"
    assert bad.network.log(CUSTODIAN).count(line) == before + 1
