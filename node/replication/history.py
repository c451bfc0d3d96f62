"""Getting the history back below a snapshot: downwards, block by block, each proven by the one above it.

It is in no hurry, so that agreement never waits for it, until somebody asks for what is not here yet.
"""

import logging
from collections.abc import Callable

import trio

from node.execution.transition import trail_of
from node.network.host import Network
from node.network.peers import RequestError
from node.replication.chain import Chain
from node.replication.wire import HISTORY, HISTORY_SERVICE, HistoryRequest
from storage.history import HistoryMismatchError, check_past_block
from storage.schema.codec import DecodeError, encode

REQUEST_TIMEOUT_S = 20.0
# At most a quarter of the time goes into history that nobody waits for.
REST_PER_WORK = 3.0
REST_S_MIN = 0.02
NOBODY_HAS_IT_S = 5.0
HASTE_S = 10.0
LOG_EVERY_BLOCKS = 1000

log = logging.getLogger("caretrace.history")


class History:
    """Fetches what lies below the lowest block that is here."""

    def __init__(self, chain: Chain, network: Network, on_whole: Callable[[], None]) -> None:
        """Fetch over ``network``; ``on_whole`` is called once all is here, also if it is from the start."""
        self._chain = chain
        self._network = network
        self._on_whole = on_whole
        self._hasty_until = 0.0

    async def run(self) -> None:
        """Fetch until all of the history is here."""
        ledger = self._chain.ledger
        if ledger.history_from > 1:
            log.info("history from block %d on is here; what is below is fetched", ledger.history_from)
        while ledger.history_from > 1:
            gained = False
            for peer in self._network.statuses():
                if peer.connected and ledger.history_from > 1:
                    gained |= await self._fetch_from(peer.name)
            if not gained:
                await trio.sleep(NOBODY_HAS_IT_S)
        self._on_whole()

    async def _fetch_from(self, peer: str) -> bool:
        """Take one answer's blocks from a peer; tells whether there was one."""
        ledger, before = self._chain.ledger, self._chain.ledger.history_from
        began = trio.current_time()
        try:
            request = encode(HistoryRequest(before - 1))
            blocks = HISTORY.decode(await self._network.request(peer, HISTORY_SERVICE, request, REQUEST_TIMEOUT_S))
            for block in blocks:
                if ledger.history_from > 1:
                    self._take(block)
                    await trio.lowlevel.checkpoint()
        except RequestError as error:
            log.debug("%s does not give history: %s", peer, error)
        except (DecodeError, HistoryMismatchError) as error:
            self._network.drop(peer, f"gave a wrong block of the past: {error}")
        if ledger.history_from < before:
            await self._rest(trio.current_time() - began)
        return ledger.history_from < before

    def _take(self, data: bytes) -> None:
        ledger = self._chain.ledger
        past = check_past_block(data, ledger.link_below, ledger.epochs)
        ids = [transaction.id for transaction in past.transactions]
        ledger.add_below(past.block, ids, trail_of(past.transactions, past.outcomes))
        height = past.block.header.height
        if height % LOG_EVERY_BLOCKS == 0 or height == 1:
            log.info("history from block %d on is here", height)

    async def _rest(self, worked_s: float) -> None:
        ledger, now = self._chain.ledger, trio.current_time()
        if ledger.is_history_missed:
            ledger.is_history_missed = False
            self._hasty_until = now + HASTE_S
        if now > self._hasty_until:
            await trio.sleep(max(REST_S_MIN, REST_PER_WORK * worked_s))
