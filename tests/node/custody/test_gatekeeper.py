import logging

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.custody.gatekeeper import WithheldError
from node.custody.reader import CustodianUnreachableError
from node.custody.sealing import Location, seal_pointer
from node.custody.wire import CONTENT_ANSWER, KEY_ANSWER, KeyRequest, Withheld
from storage.schema.calls import Period, RegisterRecord
from storage.schema.codec import encode
from storage.schema.transaction import derived_id
from tests.support.hospitals import BEN, PIA, Hospitals, blob_of, refusal_of
from tests.support.provisions import provision
from tests.support.small_ledger import service

UNKNOWN = b"\x07" * 32
NOT_YOURS = Withheld("access.not_found", "the ledger holds no such permit of a reader at this member")


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


@pytest.mark.parametrize("is_served_before", [False, True])
async def test_a_permit_that_ended_by_the_custodians_own_clock_is_withheld_although_no_block_came(
    hospitals: Hospitals, is_served_before: bool
) -> None:
    access = hospitals.permit()
    if is_served_before:
        await hospitals.south.reader.fetch_key(access)
    head = hospitals.chain.kept.head

    hospitals.chain.wait(hospitals.chain.genesis.parameters.permit_s + 1)

    assert await refusal_of(hospitals.south, access) == "access.permit_ended"
    assert hospitals.chain.kept.head is head


async def test_only_the_custodian_of_a_record_serves_it(hospitals: Hospitals) -> None:
    access = hospitals.permit()

    answer = KEY_ANSWER.decode(await hospitals.east.gatekeeper.on_key_request("south", encode(KeyRequest(access, 0))))

    assert isinstance(answer, Withheld)
    assert answer.code == "access.not_custodian"


async def test_the_custodian_who_knows_the_date_settles_a_denial_that_the_ledger_could_not(
    hospitals: Hospitals,
) -> None:
    commitment = b"m" * 32
    pointer = seal_pointer(
        hospitals.north.custodian.encryption_key, Location(0, b"b" * 16, 3, "2019-05-01"), commitment
    )
    undated = RegisterRecord(PIA.key, "laboratory", (), 0, commitment, pointer)
    record = derived_id(hospitals.chain.do("record.register", undated, [service("north")]).id)
    hospitals.grant(provisions=(provision("deny", years=Period(2019, 2019)),))

    access = hospitals.chain.request(BEN, record)

    assert await refusal_of(hospitals.south, access) == "consent.denied"


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
