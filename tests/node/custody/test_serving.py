from dataclasses import replace

import pytest
import trio
import trio.testing

from node.contracts.entries import load_access
from node.custody.encryption import BlobChangedError
from node.custody.sealing import SealError, open_data_key
from node.custody.wire import KEY_ANSWER, KeyRequest, ReleasedKey
from storage.schema.calls import RequestAccess
from storage.schema.codec import encode
from storage.schema.transaction import derived_id
from tests.support.hospitals import BEN, CONTENT, PIA, Hospitals, blob_of, read, refusal_of
from tests.support.live_node import MemberNode, sealing_secret
from tests.support.small_ledger import of_member


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

    for secret in (sealing_secret(PIA), *hospitals.south.custodian.encryption_secrets):
        with pytest.raises(SealError):
            open_data_key(secret, released.sealed_key, hospitals.release(access))


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


async def test_a_serving_that_the_ledger_refuses_gives_its_code_and_no_key(hospitals: Hospitals) -> None:
    access = hospitals.permit()
    # The organisation's key binds its member as payer, but it is not the key that serves.
    other = of_member("north", "organisation")
    custodian = replace(hospitals.north.custodian, service_key=other.key, service_seed=other.seed)
    hospitals.south.peers.nodes["north"] = MemberNode("north", hospitals.north.folder, hospitals.chain, custodian)

    assert await refusal_of(hospitals.south, access) == "signers.not_service_key"
    assert hospitals.servings(access) == []
