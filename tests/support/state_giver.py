"""A member that gives the state of a chain in parts, and its history, or lies about them."""

from collections.abc import Callable

from node.network.host import Network
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL
from node.replication.intake import CHANNEL, OVERDUE_CHANNEL
from node.replication.wire import (
    BLOCKS_SERVICE,
    HEADS_TOPIC,
    HISTORY_REQUEST,
    HISTORY_SERVICE,
    PARTS_REQUEST,
    PARTS_SERVICE,
    SEEN_REQUEST,
    SEEN_SERVICE,
    SNAPSHOT_SERVICE,
    TRANSACTIONS_TOPIC,
    BlocksAnswer,
)
from node.runtime.parts import other_members
from storage.schema.codec import encode
from storage.schema.genesis import Genesis
from storage.snapshot import HeldSnapshot
from tests.support.kept_ledger import KeptLedger
from tests.support.small_ledger import of_member

Lie = Callable[["Giver", str, bytes], bytes | None]
"""What is answered instead of the truth to a request of a service; None: the truth."""


class Giver:
    """A member's bare network that gives the state of a chain, lying as it was told, and no blocks."""

    def __init__(self, name: str, genesis: Genesis, kept: KeptLedger, lie: Lie | None = None) -> None:
        member = genesis.member(name)
        assert member is not None
        self.kept = kept
        self.snapshot = HeldSnapshot(kept.ledger, genesis.body.tree_depth)
        self.asked: list[str] = []
        self.parts_given = 0
        self.lie = lie
        self.network = Network(
            name, of_member(name, "node").seed, member.addresses, other_members(kept.ledger.state, name)
        )
        for channel in (VOTE_CHANNEL, BLOCK_CHANNEL, CHANNEL, OVERDUE_CHANNEL):
            is_bulk = channel in (CHANNEL, OVERDUE_CHANNEL)
            self.network.on_message(channel, lambda _peer, _data: None, drop_oldest=not is_bulk)
        for topic in (HEADS_TOPIC, TRANSACTIONS_TOPIC):
            self.network.on_gossip(topic, lambda _publisher, _data: None)
        services = {
            BLOCKS_SERVICE: self._blocks,
            SNAPSHOT_SERVICE: self._offer,
            PARTS_SERVICE: self._parts,
            SEEN_SERVICE: self._seen,
            HISTORY_SERVICE: self._history,
        }
        for service, answer in services.items():
            self._serve(service, answer)

    def _serve(self, service: str, answer: Callable[[bytes], bytes]) -> None:
        async def handle(_peer: str, payload: bytes) -> bytes:
            self.asked.append(service)
            lied = self.lie(self, service, payload) if self.lie else None
            return answer(payload) if lied is None else lied

        self.network.on_request(service, handle)

    def _blocks(self, _: bytes) -> bytes:
        return encode(BlocksAnswer(self.snapshot.height, ()))

    def _offer(self, _: bytes) -> bytes:
        return encode(self.snapshot.foundation)

    def _parts(self, payload: bytes) -> bytes:
        asked = PARTS_REQUEST.decode(payload)
        assert asked.height == self.snapshot.height
        self.parts_given += len(asked.parts)
        return encode([self.snapshot.part(part) for part in asked.parts])

    def _seen(self, payload: bytes) -> bytes:
        asked = SEEN_REQUEST.decode(payload)
        return encode(list(self.snapshot.seen_after(asked.minute, asked.block))[:2])

    def _history(self, payload: bytes) -> bytes:
        return encode([self.kept.encoded_whole_block(HISTORY_REQUEST.decode(payload).height)])
