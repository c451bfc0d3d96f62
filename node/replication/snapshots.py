"""Giving: the state in parts to one who lacks it, and blocks of the past to one who began above them.

Whoever asks for a snapshot learns of one height, which is held for a while: by LevelDB, which keeps what is overwritten
meanwhile, and as 128 KiB of hashes. Reading is done in a thread, one answer at a time, so that agreement goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from node.network.host import Network
from node.network.peers import PeerFaultError, RequestRefusedError
from node.replication.chain import Chain
from node.replication.wire import (
    HISTORY_BYTES_MAX,
    HISTORY_REQUEST,
    HISTORY_SERVICE,
    PARTS_BYTES_MAX,
    PARTS_REQUEST,
    PARTS_SERVICE,
    SEEN_REQUEST,
    SEEN_SERVICE,
    SNAPSHOT_SERVICE,
)
from storage.schema.codec import DecodeError, Form, encode
from storage.snapshot import HeldSnapshot, Part, SeenList

HELD_MAX = 2
FRESH_S = 20.0
IDLE_S = 60.0
AGE_S_MAX = 900.0
SWEEP_EVERY_S = 5.0

T = TypeVar("T")


@dataclass(slots=True)
class _Held:
    snapshot: HeldSnapshot
    made_at: float
    used_at: float


class Snapshots:
    """Holds states for those who fetch them: few, and none for long."""

    def __init__(self, chain: Chain, network: Network) -> None:
        """Give from ``chain``, over ``network``."""
        self._chain = chain
        self._network = network
        self._held: dict[int, _Held] = {}
        self._turn = trio.CapacityLimiter(1)

    def serve(self) -> None:
        """Answer peers that lack the state, or history."""
        self._network.on_request(SNAPSHOT_SERVICE, self._offer)
        self._network.on_request(PARTS_SERVICE, self._parts)
        self._network.on_request(SEEN_SERVICE, self._seen)
        self._network.on_request(HISTORY_SERVICE, self._history)

    async def run(self) -> None:
        """Let go of what nobody fetches any more, until cancelled."""
        while True:
            await trio.sleep(SWEEP_EVERY_S)
            now = trio.current_time()
            for height, held in list(self._held.items()):
                if now - held.used_at > IDLE_S or now - held.made_at > AGE_S_MAX:
                    del self._held[height]

    async def _offer(self, _peer: str, _payload: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        head, now = self._chain.head, trio.current_time()
        if head.certificate is None:
            raise RequestRefusedError("no block is committed yet")
        newest = self._held.get(max(self._held, default=0))
        if newest is None or (newest.snapshot.height < head.height and now - newest.made_at > FRESH_S):
            while len(self._held) >= HELD_MAX:
                del self._held[min(self._held)]
            depth = self._chain.genesis.body.tree_depth
            newest = self._held[head.height] = _Held(HeldSnapshot(self._chain.ledger, depth), now, now)
        newest.used_at = now
        return encode(newest.snapshot.foundation)

    async def _parts(self, _peer: str, payload: bytes) -> bytes:
        request = _decoded(PARTS_REQUEST, payload)
        held = self._at(request.height)
        if any(part >= held.part_count for part in request.parts):
            raise PeerFaultError("asked for a part that no state of this network has")

        def read() -> list[Part]:
            parts: list[Part] = []
            size_bytes = 0
            for part in request.parts:
                entries = held.part(part)
                size_bytes += sum(40 + len(value) for _, value in entries)
                if parts and size_bytes > PARTS_BYTES_MAX:
                    break
                parts.append(entries)
            return parts

        return encode(await self._in_turn(read))

    async def _seen(self, _peer: str, payload: bytes) -> bytes:
        request = _decoded(SEEN_REQUEST, payload)
        held = self._at(request.height)

        def read() -> list[SeenList]:
            lists: list[SeenList] = []
            size_bytes = 0
            for each in held.seen_after(request.minute, request.block):
                size_bytes += 32 + len(each.ids)
                if lists and size_bytes > PARTS_BYTES_MAX:
                    break
                lists.append(each)
            return lists

        return encode(await self._in_turn(read))

    async def _history(self, _peer: str, payload: bytes) -> bytes:
        request, ledger = _decoded(HISTORY_REQUEST, payload), self._chain.ledger
        if not ledger.history_from <= request.height <= ledger.head.height:
            raise RequestRefusedError("that block is not here")

        def read() -> list[bytes]:
            blocks: list[bytes] = []
            size_bytes = 0
            for height in range(request.height, max(1, ledger.history_from) - 1, -1):
                block = ledger.encoded_whole_block(height)
                size_bytes += len(block)
                if blocks and size_bytes > HISTORY_BYTES_MAX:
                    break
                blocks.append(block)
            return blocks

        return encode(await self._in_turn(read))

    def _at(self, height: int) -> HeldSnapshot:
        held = self._held.get(height)
        if held is None:
            raise RequestRefusedError("the state of that height is held no more")
        held.used_at = trio.current_time()
        return held.snapshot

    async def _in_turn(self, read: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(read, limiter=self._turn)


def _decoded(form: Form[T], payload: bytes) -> T:
    try:
        return form.decode(payload)
    except DecodeError as error:
        raise PeerFaultError(f"asked for a snapshot malformedly: {error}") from None
