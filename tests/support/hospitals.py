"""Three hospitals on one chain: a record at one, its reader at another, and a third that has no business with it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from node.contracts.entries import load_record
from node.custody.deposits import About
from node.custody.encryption import decrypt_stream
from node.custody.gatekeeper import WithheldError
from node.custody.sealing import Release, open_data_key
from node.custody.wire import ReleasedKey
from storage.schema.events import AccessServed
from tests.support.live_node import LiveChain, MemberNode, sealing_secret
from tests.support.provisions import provision
from tests.support.small_ledger import Actor

PIA, BEN = Actor("pia"), Actor("ben")
CONTENT = bytes(range(256)) * 6000  # Two pieces on the way.


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
        outcomes = (self.chain.kept.outcome(*place) for place in places)
        return [each.id for each in outcomes if each.code == "ok" and isinstance(each.events[0], AccessServed)]


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
