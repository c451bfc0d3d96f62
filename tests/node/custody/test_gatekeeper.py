import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.contracts.entries import load_access, load_record
from node.custody.deposits import About
from node.custody.encryption import BlobChangedError, commit_to, decrypt_stream
from node.custody.gatekeeper import WithheldError
from node.custody.reader import CustodianUnreachableError
from node.custody.sealing import Location, Release, SealError, open_data_key, seal_pointer
from node.custody.wire import CONTENT_ANSWER, KEY_ANSWER, KeyRequest, ReleasedKey, Withheld
from storage.schema.block import OUTCOME
from storage.schema.calls import Period, RegisterRecord, RequestAccess
from storage.schema.codec import encode
from storage.schema.events import AccessServed
from storage.schema.transaction import derived_id
from tests.support.live_node import LiveChain, MemberNode, sealing_secret
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service

PIA, BEN = Actor("pia"), Actor("ben")
CONTENT = bytes(range(256)) * 6000  # Two pieces on the way.
UNKNOWN = b"\x07" * 32
NOT_YOURS = Withheld("access.not_found", "the ledger holds no such permit of a reader at this member")


async def content_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


class Hospitals:
    """North keeps pia's record, south employs ben, east looks on."""

    def __init__(self, folder: Path) -> None:
        self.chain = LiveChain(folder)
        nodes = {name: MemberNode(name, folder / name, self.chain) for name in ("east", "north", "south")}
        self.east, self.north, self.south = nodes.values()
        for node in nodes.values():
            node.peers.nodes = nodes
        self.chain.register(PIA)
        self.chain.enrol(BEN)
        about = About(PIA.key, "laboratory", (), "2026-11-03")
        self.record = trio.run(self.north.deposits.take, content_of(CONTENT), about).record

    def grant(self, **criteria: object) -> bytes:
        return self.chain.grant(PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",), **criteria))

    def permit(self) -> bytes:
        """A grant to ben, and his request under it."""
        self.grant()
        return self.chain.request(BEN, self.record)

    def release(self, access: bytes, reader: Actor = BEN) -> Release:
        entry = load_record(self.chain.kept.state, self.record)
        assert entry is not None
        chain_id = self.chain.genesis.chain_id
        return Release(chain_id, access, self.record, 0, reader.key, reader.sealing_key, "TREAT", entry.commitment)

    def servings(self, access: bytes) -> list[bytes]:
        """The transactions that say that an access was served."""
        places = self.chain.kept.trail(access, limit=100)
        outcomes = (OUTCOME.decode(self.chain.kept.outcomes(height)[index]) for height, index in places)
        return [each.id for each in outcomes if each.code == "ok" and isinstance(each.events[0], AccessServed)]


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    made = Hospitals(tmp_path)
    yield made
    made.chain.close()


async def blob_of(node: MemberNode, access: bytes) -> bytes:
    blob, size_bytes = b"", 1
    while len(blob) < size_bytes:
        chunk = await node.reader.fetch_chunk(access, len(blob))
        blob, size_bytes = blob + chunk.data, chunk.size_bytes
    return blob


async def refusal_of(node: MemberNode, access: bytes) -> str:
    with pytest.raises(WithheldError) as withheld:
        await node.reader.fetch_key(access)
    return withheld.value.code


def read(released: ReleasedKey, blob: bytes, release: Release, reader: Actor) -> bytes:
    key = open_data_key(sealing_secret(reader), released.sealed_key, release)
    return b"".join(decrypt_stream(key, [blob], release.commitment))


async def test_a_permitted_reader_at_another_member_gets_the_record_byte_for_byte(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    blob = await blob_of(hospitals.south, access)
    released = await hospitals.south.reader.fetch_key(access)

    assert read(released, blob, hospitals.release(access), BEN) == CONTENT
    assert released.size_bytes == len(blob)


async def test_before_the_key_leaves_the_ledger_says_that_it_was_served(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    released = await hospitals.south.reader.fetch_key(access)

    entry = load_access(hospitals.chain.kept.state, access)
    assert entry is not None
    assert entry.served_height == released.height
    assert hospitals.servings(access) == [released.served]


async def test_the_same_access_is_answered_again_also_after_a_restart_without_a_second_serving(
    hospitals: Hospitals,
) -> None:
    access = hospitals.permit()

    first = await hospitals.south.reader.fetch_key(access)
    again = await hospitals.south.reader.fetch_key(access)
    hospitals.south.peers.nodes["north"] = MemberNode("north", hospitals.north.folder, hospitals.chain)
    third = await hospitals.south.reader.fetch_key(access)

    assert hospitals.servings(access) == [first.served]
    assert first.served == again.served == third.served
    release = hospitals.release(access)
    keys = {open_data_key(sealing_secret(BEN), each.sealed_key, release) for each in (first, again, third)}
    assert len(keys) == 1


async def test_many_askings_at_once_make_one_serving(hospitals: Hospitals) -> None:
    access = hospitals.permit()
    hospitals.chain.is_holding = True
    answers: list[ReleasedKey] = []

    async def ask() -> None:
        answers.append(await hospitals.south.reader.fetch_key(access))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        waiting = len(hospitals.chain.held)
        hospitals.chain.order_held()

    assert (waiting, len(answers), len(hospitals.servings(access))) == (1, 5, 1)


async def test_patients_read_their_own_record_at_the_member_that_keeps_it(hospitals: Hospitals) -> None:
    access = hospitals.chain.request(PIA, hospitals.record, "north")

    blob = await blob_of(hospitals.north, access)
    released = await hospitals.north.reader.fetch_key(access)

    assert read(released, blob, hospitals.release(access, PIA), PIA) == CONTENT
    assert hospitals.servings(access) == [released.served]


async def test_the_sealed_key_opens_for_the_reader_alone(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    released = await hospitals.south.reader.fetch_key(access)

    for secret in (sealing_secret(PIA), hospitals.south.custodian.encryption_secret):
        with pytest.raises(SealError):
            open_data_key(secret, released.sealed_key, hospitals.release(access))


async def test_no_key_and_no_content_without_a_permit(hospitals: Hospitals) -> None:
    hospitals.grant()

    key = await hospitals.north.gatekeeper.on_key_request("south", encode(KeyRequest(UNKNOWN, 0)))
    content = await hospitals.north.gatekeeper.on_content_request("south", encode((UNKNOWN, 0, 0)))

    assert (KEY_ANSWER.decode(key), CONTENT_ANSWER.decode(content)) == (NOT_YOURS, NOT_YOURS)
    assert await refusal_of(hospitals.south, UNKNOWN) == "access.not_found"


async def test_another_members_node_gets_nothing_for_an_access_that_is_not_its_own(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    key = await hospitals.north.gatekeeper.on_key_request("east", encode(KeyRequest(access, 0)))
    content = await hospitals.north.gatekeeper.on_content_request("east", encode((access, 0, 0)))

    assert (KEY_ANSWER.decode(key), CONTENT_ANSWER.decode(content)) == (NOT_YOURS, NOT_YOURS)
    assert hospitals.servings(access) == []
    assert await refusal_of(hospitals.east, access) == "access.other_member"


async def test_after_a_revocation_neither_key_nor_content_leave_the_custodian(hospitals: Hospitals) -> None:
    consent = hospitals.grant()
    access = hospitals.chain.request(BEN, hospitals.record)

    hospitals.chain.revoke(PIA, consent)

    assert await refusal_of(hospitals.south, access) == "consent.denied"
    with pytest.raises(WithheldError):
        await blob_of(hospitals.south, access)
    assert hospitals.servings(access) == []


async def test_a_revocation_in_the_midst_of_the_content_stops_it(hospitals: Hospitals) -> None:
    consent = hospitals.grant()
    access = hospitals.chain.request(BEN, hospitals.record)

    first = await hospitals.south.reader.fetch_chunk(access, 0)
    hospitals.chain.revoke(PIA, consent)

    assert len(first.data) == 1 << 20
    with pytest.raises(WithheldError):
        await hospitals.south.reader.fetch_chunk(access, len(first.data))


async def test_after_a_revocation_what_was_served_before_is_not_given_again(hospitals: Hospitals) -> None:
    consent = hospitals.grant()
    access = hospitals.chain.request(BEN, hospitals.record)
    await hospitals.south.reader.fetch_key(access)

    hospitals.chain.revoke(PIA, consent)

    assert await refusal_of(hospitals.south, access) == "consent.denied"


@pytest.mark.parametrize("is_served_first", [False, True])
async def test_a_revocation_that_comes_while_the_serving_is_ordered_withholds_the_key(
    hospitals: Hospitals, is_served_first: bool
) -> None:
    consent = hospitals.grant()
    access = hospitals.chain.request(BEN, hospitals.record)
    hospitals.chain.is_holding = True
    codes: list[str] = []

    async def ask() -> None:
        codes.append(await refusal_of(hospitals.south, access))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        # Both blocks are applied before the gatekeeper comes to run again.
        if is_served_first:
            hospitals.chain.order_held()
        hospitals.chain.revoke(PIA, consent)
        hospitals.chain.order_held()

    assert codes == ["consent.denied"]
    assert len(hospitals.servings(access)) == is_served_first


async def test_a_permit_that_ended_by_the_custodians_own_clock_is_withheld_although_no_block_came(
    hospitals: Hospitals,
) -> None:
    access = hospitals.permit()

    hospitals.chain.wait(hospitals.chain.genesis.parameters.permit_s + 1)

    assert await refusal_of(hospitals.south, access) == "access.permit_ended"
    assert hospitals.servings(access) == []


async def test_a_serving_that_is_not_committed_in_time_gives_no_key(
    hospitals: Hospitals, autojump_clock: trio.testing.MockClock
) -> None:
    access = hospitals.permit()
    hospitals.chain.is_holding = True

    assert await refusal_of(hospitals.south, access) == "access.not_served"


async def test_a_custodian_that_lags_waits_for_the_block_of_the_permit(hospitals: Hospitals) -> None:
    hospitals.grant()
    wish = hospitals.chain.sign("access.request", RequestAccess(hospitals.record, "TREAT"), [BEN], "south")
    payload = encode(KeyRequest(derived_id(wish.id), hospitals.chain.kept.head.header.height + 1))
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await hospitals.north.gatekeeper.on_key_request("south", payload))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        hospitals.chain.order(wish)

    assert isinstance(KEY_ANSWER.decode(answers[0]), ReleasedKey)


async def test_only_the_custodian_of_a_record_serves_it(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    answer = KEY_ANSWER.decode(await hospitals.east.gatekeeper.on_key_request("south", encode(KeyRequest(access, 0))))

    assert isinstance(answer, Withheld)
    assert answer.code == "access.not_custodian"


async def test_the_custodian_who_knows_the_date_settles_a_denial_that_the_ledger_could_not(
    hospitals: Hospitals,
) -> None:
    commitment = commit_to(b"k" * 32, [b"old"])
    pointer = seal_pointer(
        hospitals.north.custodian.encryption_key, Location(0, b"b" * 16, 3, "2019-05-01"), commitment
    )
    undated = RegisterRecord(PIA.key, "laboratory", (), 0, commitment, pointer)
    record = derived_id(hospitals.chain.do("record.register", undated, [service("north")]).id)
    hospitals.grant(provisions=(provision("deny", years=Period(2019, 2019)),))

    access = hospitals.chain.request(BEN, record)

    assert await refusal_of(hospitals.south, access) == "consent.denied"


async def test_a_custodian_whose_key_file_is_gone_serves_nothing_and_has_nothing_ordered(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    hospitals.north.data_keys.destroy(hospitals.record)

    assert await refusal_of(hospitals.south, access) == "record.not_held"
    assert hospitals.servings(access) == []


async def test_a_changed_byte_in_the_vault_is_an_error_at_the_reader_and_never_wrong_data(
    hospitals: Hospitals,
) -> None:
    access = hospitals.permit()
    (path,) = (hospitals.north.folder / "vault").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    blob = await blob_of(hospitals.south, access)
    released = await hospitals.south.reader.fetch_key(access)

    with pytest.raises(BlobChangedError):
        read(released, blob, hospitals.release(access), BEN)


async def test_a_custodian_that_does_not_answer_is_unreachable_since_it_first_did_not(
    hospitals: Hospitals, autojump_clock: trio.testing.MockClock
) -> None:
    access = hospitals.permit()
    hospitals.south.peers.nodes = {}
    since_ms = hospitals.chain.time_ms

    seen = []
    for _ in range(2):
        with pytest.raises(CustodianUnreachableError) as unreachable:
            await blob_of(hospitals.south, access)
        seen.append((unreachable.value.custodian, unreachable.value.since_ms))
        hospitals.chain.wait(1)

    assert seen == [("north", since_ms)] * 2


async def test_every_refusal_is_logged_with_its_code_and_nothing_secret(
    hospitals: Hospitals, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="caretrace.custody"):
        await hospitals.north.gatekeeper.on_key_request("east", encode(KeyRequest(UNKNOWN, 0)))

    assert caplog.messages == [f"withheld from east, who asked for access {UNKNOWN.hex()}: access.not_found"]


@given(payload=st.binary(max_size=80) | st.just(encode(KeyRequest(UNKNOWN, 0)) + b"\x00"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_bytes_that_are_no_request_are_answered_with_a_refusal(hospitals: Hospitals, payload: bytes) -> None:
    key = trio.run(hospitals.north.gatekeeper.on_key_request, "east", payload)
    content = trio.run(hospitals.north.gatekeeper.on_content_request, "east", payload)

    answers = (KEY_ANSWER.decode(key), CONTENT_ANSWER.decode(content))
    assert all(isinstance(answer, Withheld) and answer.code == "bytes.malformed" for answer in answers)
