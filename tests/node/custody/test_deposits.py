from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from node.contracts.entries import load_record
from node.custody.deposits import About, DepositError, Deposits
from node.custody.encryption import decrypt_stream
from node.custody.labels import LabelError
from node.custody.sealing import open_pointer
from tests.support.live_node import LiveChain, MemberNode
from tests.support.small_ledger import Actor

PIA = Actor("pia")
ABOUT = About(PIA.key, "laboratory", (), "2026-11-03")


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[LiveChain]:
    live = LiveChain(tmp_path)
    live.register(PIA)
    yield live
    live.close()


@pytest.fixture
def north(chain: LiveChain, tmp_path: Path) -> MemberNode:
    return MemberNode("north", tmp_path / "north", chain)


async def stream_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


async def settled(deposits: Deposits) -> None:
    """Let what the ledger has decided be done on disk."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deposits.run)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()


async def test_a_record_that_comes_in_stands_on_the_ledger_and_opens_with_what_the_custodian_keeps(
    chain: LiveChain, north: MemberNode
) -> None:
    content = bytes(range(256)) * 1000

    deposited = await north.deposits.take(stream_of(content[:1000], b"", content[1000:]), ABOUT)

    record = load_record(chain.kept.state, deposited.record)
    assert record is not None
    assert (record.patient, record.custodian, record.category, record.year) == (PIA.key, "north", "laboratory", 2026)
    location = open_pointer(north.custodian.encryption_secrets, record.pointer, record.commitment)
    key = north.data_keys.get(deposited.record)
    assert (location.date, location.size_bytes, location.blob) == ("2026-11-03", len(content), key.blob)
    assert b"".join(decrypt_stream(key.key, [north.vault.read(key.blob, 0)], record.commitment)) == content


async def test_after_the_commit_the_key_is_no_longer_pending(chain: LiveChain, north: MemberNode) -> None:
    deposited = await north.deposits.take(stream_of(b"content"), ABOUT)

    await settled(north.deposits)

    assert north.data_keys.pending() == []
    assert f"datakeys/{deposited.record.hex()}" in north.files()


async def test_nothing_stays_of_a_record_that_the_ledger_refuses(chain: LiveChain, north: MemberNode) -> None:
    stranger = About(Actor("nobody").key, "laboratory", (), "")

    await north.deposits.take(stream_of(b"content"), stranger)
    await settled(north.deposits)

    assert north.files() == []


async def test_nothing_stays_of_a_record_whose_call_is_never_included(chain: LiveChain, north: MemberNode) -> None:
    chain.is_holding = True
    await north.deposits.take(stream_of(b"content"), ABOUT)
    chain.held.clear()

    chain.wait(590)
    chain.register(Actor("in time"))
    await settled(north.deposits)
    still_there = north.files()
    chain.wait(12)
    chain.register(Actor("too late"))
    await settled(north.deposits)

    assert len(still_there) == 2
    assert north.files() == []


async def test_a_node_that_stopped_before_the_commit_takes_up_again_what_was_pending(
    chain: LiveChain, north: MemberNode
) -> None:
    chain.is_holding = True
    deposited = await north.deposits.take(stream_of(b"content"), ABOUT)
    lost = await north.deposits.take(stream_of(b"never ordered"), ABOUT)
    chain.held.pop()

    chain.order_held()
    again = MemberNode("north", north.folder, chain)
    await settled(again.deposits)
    pending = again.data_keys.pending()
    chain.wait(601)
    chain.register(Actor("later"))
    await settled(again.deposits)

    assert pending == [lost.record]
    assert [name for name in again.files() if name.startswith("datakeys")] == [f"datakeys/{deposited.record.hex()}"]
    assert len([name for name in again.files() if name.startswith("vault")]) == 1


async def test_a_client_that_goes_away_in_the_midst_leaves_nothing(north: MemberNode) -> None:
    async def cut_short() -> AsyncIterator[bytes]:
        yield bytes(3 << 20)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await north.deposits.take(cut_short(), ABOUT)

    assert north.files() == []


async def test_an_empty_record_is_refused_and_leaves_nothing(north: MemberNode) -> None:
    with pytest.raises(DepositError) as refused:
        await north.deposits.take(stream_of(b""), ABOUT)

    assert refused.value.code == "record.empty"
    assert north.files() == []


async def test_a_call_that_the_node_does_not_take_leaves_nothing(chain: LiveChain, north: MemberNode) -> None:
    far = About(PIA.key, "laboratory", (), "")
    a_day_ahead = Deposits(
        north.custodian,
        chain.ledger,
        chain.submit,
        north.vault,
        north.data_keys,
        lambda: chain.time_ms + 2 * 86_400_000,
    )

    with pytest.raises(DepositError) as refused:
        await a_day_ahead.take(stream_of(b"content"), far)
    await settled(a_day_ahead)

    assert refused.value.code == "tx.too_far_future"
    assert north.files() == []


async def test_equal_labels_of_one_patient_have_equal_tags_and_of_another_patient_others(
    chain: LiveChain, north: MemberNode
) -> None:
    other = Actor("otto")
    chain.register(other)

    tags = []
    for patient, labels in ((PIA, ("HIV", "PSY")), (PIA, ("HIV", "HIV")), (other, ("HIV",))):
        deposited = await north.deposits.take(stream_of(b"x"), About(patient.key, "note", labels, ""))
        record = load_record(chain.kept.state, deposited.record)
        assert record is not None
        tags.append(set(record.tags))

    assert [len(each) for each in tags] == [2, 1, 1]
    assert tags[1] < tags[0]
    assert tags[2].isdisjoint(tags[0])
    assert tags[1] == {north.labels.tag(PIA.key, "HIV")}


async def test_an_unknown_sensitivity_is_refused_before_anything_is_stored(north: MemberNode) -> None:
    with pytest.raises(LabelError):
        await north.deposits.take(stream_of(b"x"), About(PIA.key, "note", ("NOSUCH",), ""))

    assert north.files() == []
