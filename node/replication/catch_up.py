"""Catching up: committed blocks are fetched from peers, and believed only under their certificate.

Whoever is far behind takes the state instead (``node.replication.state_fetch``); the node then begins again on it.

A block is applied here only after a quorum of the validators of its epoch was seen to have signed it, every
transaction's signature was checked, and executing it gave the certified result.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from node.metrics import Metrics
from node.network.host import Network
from node.network.peers import PeerFaultError, RequestError
from node.replication.chain import Chain, Committed
from node.replication.driver import Driver
from node.replication.wire import (
    BLOCKS_ANSWER,
    BLOCKS_BYTES_MAX,
    BLOCKS_REQUEST,
    BLOCKS_SERVICE,
    HEAD,
    HEADS_TOPIC,
    BlocksAnswer,
    BlocksRequest,
    Head,
)
from storage.merkle import log as merkle_log
from storage.schema.block import CertificateError, CertifiedBlock, VoteType, decode_certified_block, verify_certificate
from storage.schema.codec import DecodeError, encode
from storage.schema.signatures import SignatureError
from storage.schema.transaction import Transaction, decode_transaction

HEAD_EVERY_S = 0.5
HINTS_EVERY_S = 1.0
REQUEST_TIMEOUT_S = 10.0
HINT_TIMEOUT_S = 3.0
VERIFY_CHUNK = 50

log = logging.getLogger("caretrace.catch_up")


class CatchUp:
    """Brings this node's chain to the height that a certificate shows to exist."""

    def __init__(
        self,
        name: str,
        chain: Chain,
        driver: Driver,
        network: Network,
        metrics: Metrics,
        verify: Callable[[Transaction], None],
        *,
        take_state: Callable[[], Awaitable[bool]],
        blocks_behind_max: int,
    ) -> None:
        """Fetch over ``network`` and apply through ``driver``; ``take_state`` tells whether it has one to begin with.

        It is called when more than ``blocks_behind_max`` blocks are missing, or when nobody gives the next one.
        """
        self._name = name
        self._chain = chain
        self._driver = driver
        self._network = network
        self._metrics = metrics
        self._verify = verify
        self._take_state = take_state
        self._blocks_behind_max = blocks_behind_max
        self._target = 0
        self._holders: list[str] = []
        self._wanted = trio.Event()
        self._hints: dict[str, None] = {}
        self._hinted = trio.Event()
        self._announced: Committed | None = None
        chain.listen(self._on_commit)

    def serve(self) -> None:
        """Answer peers that lag, and listen to announcements."""
        self._network.on_request(BLOCKS_SERVICE, self._answer)
        self._network.on_gossip(HEADS_TOPIC, self._on_head)

    def want(self, height: int, peers: tuple[str, ...]) -> None:
        """Blocks up to ``height`` are certified; these peers have them."""
        self._target = max(self._target, height)
        self._holders = [*peers, *(peer for peer in self._holders if peer not in peers)]
        self._wanted.set()

    def hint(self, peer: str) -> None:
        """A peer speaks as one of a later epoch. Nothing proves it, so it is only asked what follows the head."""
        self._hints[peer] = None
        self._hinted.set()

    @property
    def blocks_behind(self) -> int:
        """How many certified blocks this node knows of and does not have."""
        return max(0, self._target - self._chain.head.header.height)

    async def run(self) -> None:
        """Fetch what is wanted and announce what was committed, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fetch_wanted)
            nursery.start_soon(self._follow_hints)
            nursery.start_soon(self._announce)

    async def _fetch_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._chain.head.header.height < self._target:
                before = self._chain.head.header.height
                if self.blocks_behind > self._blocks_behind_max and await self._take_state():
                    return
                has_gap = False
                for holder in list(self._holders):
                    has_gap |= await self._fetch_from(holder, lambda: self._chain.head.header.height < self._target)
                if self._chain.head.header.height == before:
                    if has_gap and await self._take_state():
                        return
                    # Nobody could help now; the engine or the next announcement asks again.
                    await trio.sleep(1.0)
                    break

    async def _follow_hints(self) -> None:
        """Ask those who may be in a later epoch, each at most once a second, and none at another's expense."""
        while True:
            await self._hinted.wait()
            self._hinted = trio.Event()
            hints, self._hints = self._hints, {}
            is_wanted = partial(self._is_in, self._chain.ledger.validators.epoch)
            async with trio.open_nursery() as nursery:
                for peer in hints:
                    nursery.start_soon(self._fetch_from, peer, is_wanted, HINT_TIMEOUT_S)
            await trio.sleep(HINTS_EVERY_S)

    def _is_in(self, epoch: int) -> bool:
        return self._chain.ledger.validators.epoch == epoch

    async def _fetch_from(
        self, holder: str, is_wanted: Callable[[], bool], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> bool:
        """Take blocks from one peer for as long as they are wanted and it gives valid ones.

        Returns True if the peer began above our head itself.
        """
        before = -1
        # Whoever answers without bringing us on is not asked again now.
        while before < self._chain.head.header.height and is_wanted():
            before = self._chain.head.header.height
            request = encode(BlocksRequest(before + 1))
            try:
                payload = await self._network.request(holder, BLOCKS_SERVICE, request, timeout_s)
                answer = BLOCKS_ANSWER.decode(payload)
                # What it says of its head is not proven; the state that is taken then is.
                if answer.head_height - before > self._blocks_behind_max and await self._take_state():
                    return False
                if not answer.blocks and answer.head_height > before:
                    return True
                for encoded in answer.blocks:
                    await self._apply(decode_certified_block(encoded))
            except RequestError as error:
                log.info("%s does not give blocks: %s", holder, error)
                return False
            except (DecodeError, CertificateError, SignatureError) as error:
                self._network.drop(holder, f"sent an invalid block: {error}")
                return False
        return False

    async def _apply(self, block: CertifiedBlock) -> None:
        """Verify one block under its certificate, and commit it.

        Raises:
            CertificateError: the quorum is not there, or it certifies something else.
            DecodeError: a transaction is malformed.
            SignatureError: a transaction's signature does not verify.
            DivergedError: it does not execute to the certified result here.
        """
        header, certificate = block.header, block.certificate
        head = self._chain.head
        if header.height <= head.header.height:
            return  # Committed meanwhile, in the ordinary way.
        validators = self._chain.ledger.validators
        verify_certificate(certificate, VoteType.COMMIT, self._chain.genesis.chain_id, validators)
        if (certificate.height, certificate.digest) != (header.height, header.digest()):
            raise CertificateError("the certificate is about another block")
        if header.parent != head.digest:
            raise CertificateError("the block does not stand on this node's head")
        transactions = [decode_transaction(envelope) for envelope in block.envelopes]
        if merkle_log.root([transaction.leaf for transaction in transactions]) != header.tx_root:
            raise CertificateError("the transactions are not those of the header")
        for index, transaction in enumerate(transactions, start=1):
            self._verify(transaction)
            if index % VERIFY_CHUNK == 0:
                await trio.lowlevel.checkpoint()
        if self._driver.apply_certified(header, transactions, certificate):
            self._metrics.blocks_caught_up.inc()
        await trio.lowlevel.checkpoint()

    async def _answer(self, _peer: str, payload: bytes) -> bytes:
        try:
            request = BLOCKS_REQUEST.decode(payload)
        except DecodeError as error:
            raise PeerFaultError(f"asked for blocks malformedly: {error}") from None
        head_height = self._chain.head.header.height
        blocks: list[bytes] = []
        size = 0
        first = max(1, request.from_height)
        # Who began with a snapshot does not have what is below it, and does not give what stands above a gap.
        for height in range(first, head_height + 1) if first >= self._chain.ledger.history_from else ():
            encoded = self._chain.ledger.encoded_block(height)
            if blocks and size + len(encoded) > BLOCKS_BYTES_MAX:
                break
            blocks.append(encoded)
            size += len(encoded)
            await trio.lowlevel.checkpoint()
        return encode(BlocksAnswer(head_height, tuple(blocks)))

    def _on_commit(self, committed: Committed) -> None:
        if committed.header.proposer == self._name:
            self._announced = committed

    async def _announce(self) -> None:
        """Publish the newest block that this member proposed, every half second at most."""
        while True:
            await trio.sleep(HEAD_EVERY_S)
            committed, self._announced = self._announced, None
            if committed is not None:
                leaves = tuple(transaction.leaf for transaction in committed.transactions)
                announcement = encode(Head(committed.header, committed.certificate, leaves))
                await self._network.publish(HEADS_TOPIC, announcement)

    def _on_head(self, publisher: str, data: bytes) -> None:
        """Believe an announced head only under its certificate; then fetch what is missing."""
        try:
            head = HEAD.decode(data)
            if head.header.height <= self._chain.head.header.height + 1:
                return
            validators = self._chain.ledger.validators
            if head.certificate.epoch > validators.epoch:
                self.hint(publisher)
                return
            verify_certificate(head.certificate, VoteType.COMMIT, self._chain.genesis.chain_id, validators)
        except (DecodeError, CertificateError) as error:
            raise PeerFaultError(f"announced an invalid head: {error}") from None
        if (head.certificate.height, head.certificate.digest) == (head.header.height, head.header.digest()):
            self.want(head.header.height, (publisher,))
