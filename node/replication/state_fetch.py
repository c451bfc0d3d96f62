"""Taking the state in parts from several members at once, instead of every block since genesis.

All hangs on one certificate: a member that gives anything else than what it covers is dropped. Which of the certified
heights is taken matters only for what is left to fetch, so one honest member's is new enough: f + 1 are asked at least.
Members hold different heights while blocks go on. Most parts are the same at all of them, and are told by their hash;
so a part is taken from whoever has it, and what was fetched before an interruption is kept.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import trio

from node.network.host import Network
from node.network.peers import RequestError
from node.replication.chain import Chain
from node.replication.wire import (
    PARTS,
    PARTS_SERVICE,
    SEEN,
    SEEN_SERVICE,
    SNAPSHOT_SERVICE,
    PartsRequest,
    SeenRequest,
)
from storage.arriving import Arriving
from storage.database import DatabaseCorruptError
from storage.places import arriving_folder
from storage.schema.codec import DecodeError, encode
from storage.schema.validators import faults_tolerated
from storage.snapshot import FOUNDATION, Foundation, SnapshotError, check_foundation

REQUEST_TIMEOUT_S = 20.0
OFFER_TIMEOUT_S = 5.0
OFFERS_WITHIN_S = 5.0
OFFERS_AGAIN_S = 0.25
PARTS_PER_REQUEST_MAX = 256
ROUNDS_WITHOUT_GAIN_MAX = 3
ROUND_PAUSE_S = 1.0
RETRY_AFTER_S = 30.0
LOG_EVERY_PARTS = 512

log = logging.getLogger("caretrace.snapshot")


class StateFetch:
    """Brings a state beside the ledger, whole or not at all; whoever wired it then puts it in the ledger's place."""

    def __init__(
        self, chain: Chain, network: Network, ledger_folder: Path, genesis_state: Mapping[bytes, bytes]
    ) -> None:
        """Fetch over ``network``, to beside the folder of the chain's ledger."""
        self._chain = chain
        self._network = network
        self._folder = arriving_folder(ledger_folder)
        self._genesis_state = genesis_state
        self._depth = chain.genesis.body.tree_depth
        self._is_here = False
        self._turn = trio.Lock()
        self._not_before = 0.0
        self._slow: set[str] = set()
        self._writing = trio.Lock()
        self.progress: tuple[int, int] | None = None
        """How many parts are here, and of how many, while a state is taken."""

    async def take(self) -> bool:
        """Take the newest state that members offer, if it is above the head; False if it cannot be had now."""
        async with self._turn:  # Whoever else wants it waits for the same.
            if not self._is_here and trio.current_time() >= self._not_before:
                self._is_here = await self._try()
                self._not_before = trio.current_time() + RETRY_AFTER_S
            return self._is_here

    async def _try(self) -> bool:
        done = False
        self._slow.clear()
        try:
            with closing(Arriving.open(self._folder, self._depth)) as arriving:
                done = await self._take_into(arriving)
        except* DatabaseCorruptError as group:
            # It is the copy on its way that is damaged, and not the ledger, which others would put aside for it.
            log.error("what was taken of the state is damaged on the disk, and begun anew: %s", group.exceptions)
            shutil.rmtree(self._folder)
        finally:
            self.progress = None
        return done

    async def _take_into(self, arriving: Arriving) -> bool:
        fruitless = 0
        while fruitless < ROUNDS_WITHOUT_GAIN_MAX:
            offers = await self._offers()
            if offers is None:
                return False
            # Who was asked in vain does not choose what is taken: it could offer the newest for ever and give nothing.
            choice = [offer for peer, offer in offers.items() if peer not in self._slow] or list(offers.values())
            newest = max(choice, key=lambda offer: offer.header.height)
            if newest.header.height <= self._chain.head.height:
                return False
            log.info("takes the state of block %d from %s", newest.header.height, ", ".join(sorted(offers)))
            await trio.to_thread.run_sync(arriving.begin, newest)
            before = len(arriving.missing)
            await self._fetch_parts(arriving, offers)
            if not arriving.missing and await self._fetch_seen(arriving, offers):
                arriving.finish(self._chain.genesis, self._genesis_state, self._chain.ledger.vote_log_key)
                log.info("the state of block %d is here, whole and checked", newest.header.height)
                return True
            fruitless = 0 if len(arriving.missing) < before else fruitless + 1
            await trio.sleep(ROUND_PAUSE_S)
        log.warning("the state cannot be had from anybody now")
        return False

    async def _offers(self) -> dict[str, Foundation] | None:
        """Ask every member that is connected; None if no f + 1 of them offer a certified state in time."""
        faults_max = faults_tolerated(len(self._chain.ledger.validators.validators))
        until = trio.current_time() + OFFERS_WITHIN_S
        while trio.current_time() < until:
            offers: dict[str, Foundation] = {}
            async with trio.open_nursery() as nursery:
                for peer in self._network.statuses():
                    if peer.connected:
                        nursery.start_soon(self._ask_offer, peer.name, offers)
            if len(offers) > faults_max:
                return offers
            await trio.sleep(OFFERS_AGAIN_S)  # After a start the connections come one by one.
        return None

    async def _ask_offer(self, peer: str, offers: dict[str, Foundation]) -> None:
        try:
            offer = FOUNDATION.decode(await self._network.request(peer, SNAPSHOT_SERVICE, b"", OFFER_TIMEOUT_S))
            check_foundation(offer, self._chain.genesis)
        except RequestError as error:
            log.info("%s offers no state: %s", peer, error)
        except (DecodeError, SnapshotError) as error:
            self._network.drop(peer, f"offered an invalid state: {error}")
        else:
            offers[peer] = offer

    async def _fetch_parts(self, arriving: Arriving, offers: Mapping[str, Foundation]) -> None:
        """Fetch what is missing from all who offer, at once, for as long as anybody gives something."""
        parts = _Parts(arriving.missing, len(offers))
        self._show(arriving)
        async with trio.open_nursery() as nursery:
            for peer, offer in offers.items():
                nursery.start_soon(self._fetch_from, peer, offer, arriving, parts)

    async def _fetch_from(self, peer: str, offer: Foundation, arriving: Arriving, parts: "_Parts") -> None:
        foundation = arriving.foundation
        assert foundation is not None, "parts are asked for once it is known of what"
        while parts.are_missing:
            asked = parts.take(lambda part: offer.part_hash(part) == foundation.part_hash(part))
            if not asked:
                if not parts.in_flight:
                    return
                await trio.sleep(0.05)  # Another may yet fail to give what it was asked for.
                continue
            given: Sequence[int] = ()
            try:
                request = encode(PartsRequest(offer.header.height, tuple(asked)))
                answer = PARTS.decode(await self._network.request(peer, PARTS_SERVICE, request, REQUEST_TIMEOUT_S))
                if not 0 < len(answer) <= len(asked):
                    raise SnapshotError("gave as many parts as nobody asked for")
                async with self._writing:
                    found = dict(zip(asked, answer, strict=False))
                    await trio.to_thread.run_sync(arriving.add_parts, found)
                given = asked[: len(answer)]
                self._show(arriving)
            except RequestError as error:
                log.info("%s does not give parts of the state: %s", peer, error)
                self._slow.add(peer)
                return
            except (DecodeError, SnapshotError) as error:
                self._network.drop(peer, f"gave wrong parts of the state: {error}")
                return
            finally:
                parts.give_back(asked, given)

    async def _fetch_seen(self, arriving: Arriving, offers: Mapping[str, Foundation]) -> bool:
        """Fetch the lists of seen ids that belong to the state from one after the other who has them."""
        assert arriving.foundation is not None, "the state is here"
        height = arriving.foundation.header.height
        for peer in sorted(peer for peer, offer in offers.items() if offer.header.height == height):
            try:
                while not arriving.is_every_list_here:
                    request = encode(SeenRequest(height, *arriving.last_seen))
                    answer = SEEN.decode(await self._network.request(peer, SEEN_SERVICE, request, REQUEST_TIMEOUT_S))
                    if not answer:
                        raise SnapshotError("lists of seen ids are left out")
                    await trio.to_thread.run_sync(arriving.add_seen, answer)
            except RequestError as error:
                log.info("%s does not give the seen ids: %s", peer, error)
                self._slow.add(peer)
            except (DecodeError, SnapshotError) as error:
                # What it left out cannot be told from what it gave: the lists begin anew with the next.
                arriving.drop_seen()
                self._network.drop(peer, f"gave wrong lists of seen ids: {error}")
            else:
                return True
        return False

    def _show(self, arriving: Arriving) -> None:
        had = self.progress
        here, of = arriving.part_counts
        self.progress = (here, of)
        if had is None or here // LOG_EVERY_PARTS != had[0] // LOG_EVERY_PARTS:
            log.info("the state: %d of %d parts", here, of)


class _Parts:
    """Which parts are missing, and which are asked for."""

    def __init__(self, missing: Sequence[int], peer_count: int) -> None:
        self._missing = dict.fromkeys(missing)
        self._share = max(1, min(PARTS_PER_REQUEST_MAX, len(missing) // (4 * peer_count)))
        self.in_flight = 0

    @property
    def are_missing(self) -> bool:
        return bool(self._missing) or self.in_flight > 0

    def take(self, has: Callable[[int], bool]) -> list[int]:
        taken = list(islice(filter(has, self._missing), self._share))
        for part in taken:
            del self._missing[part]
        self.in_flight += len(taken)
        return taken

    def give_back(self, asked: Sequence[int], given: Sequence[int]) -> None:
        self.in_flight -= len(asked)
        self._missing.update(dict.fromkeys(asked[len(given) :]))
