"""Finds the transactions that a proposal names: what came with it, the mempool, the block in flight, or a peer.

A proposal names whole envelopes by their leaf. A backup that holds another envelope of the same transaction (a twin
with another valid signature) fetches the proposed one: what is voted on are these exact bytes.
"""

from collections.abc import Callable, Sequence

import trio

from node.mempool import Mempool
from node.metrics import Metrics
from node.network.host import Network
from node.network.peers import PeerFaultError, RequestError
from node.replication.wire import BODIES, BODIES_SERVICE, LEAVES
from storage.schema.block import BLOCK_BYTES_MAX
from storage.schema.codec import DecodeError, encode
from storage.schema.signatures import SignatureError
from storage.schema.transaction import Transaction, decode_transaction, envelope_leaf

FETCH_TIMEOUT_S = 2.0


class BodiesError(Exception):
    """The bodies of a proposal cannot be had, or one of them is no valid transaction."""

    code = "block.bodies"


class Bodies:
    """Decoded and verified transactions of the block in flight, by leaf."""

    def __init__(
        self, mempool: Mempool, network: Network, metrics: Metrics, verify: Callable[[Transaction], None]
    ) -> None:
        """Look into ``mempool`` first; ``verify`` checks one transaction's signatures, and counts it."""
        self._mempool = mempool
        self._network = network
        self._metrics = metrics
        self._verify = verify
        self._in_flight: dict[bytes, Transaction] = {}

    def serve(self) -> None:
        """Answer peers that ask for bodies."""
        self._network.on_request(BODIES_SERVICE, self._answer)

    def keep(self, transactions: Sequence[Transaction]) -> None:
        """Hold the block in flight's transactions until its height commits: this node has promised to have them."""
        for transaction in transactions:
            self._in_flight[transaction.leaf] = transaction

    def forget(self) -> None:
        """Drop what was kept: the height has committed."""
        self._in_flight.clear()

    def recover(self, envelopes: Sequence[bytes]) -> None:
        """Take up the bodies that the vote log kept over a restart."""
        self.keep([decode_transaction(envelope) for envelope in envelopes])

    def held(self, leaves: Sequence[bytes], inline: bytes) -> tuple[list[Transaction] | None, dict[bytes, Transaction]]:
        """Return the transactions in order if all are held, else None; and what is held, by leaf.

        Raises:
            BodiesError: what came with the proposal is malformed, not asked for, or badly signed.
        """
        found: dict[bytes, Transaction] = {}
        for leaf in leaves:
            transaction = self._in_flight.get(leaf) or self._mempool.by_leaf(leaf)
            if transaction is not None:
                found[leaf] = transaction
        if len(found) < len(leaves) and inline:
            self._take(decode_bodies(inline), set(leaves), found)
        if len(found) < len(leaves):
            return None, found
        return [found[leaf] for leaf in leaves], found

    async def fetch(
        self, leaves: Sequence[bytes], found: dict[bytes, Transaction], holders: Sequence[str]
    ) -> list[Transaction]:
        """Ask holders in turn for the bodies that are missing.

        Raises:
            BodiesError: nobody gave them.
        """
        wanted = set(leaves)
        for holder in holders:
            missing = tuple(leaf for leaf in leaves if leaf not in found)
            if not missing:
                break
            try:
                answer = await self._network.request(holder, BODIES_SERVICE, encode(missing), FETCH_TIMEOUT_S)
                self._take(decode_bodies(answer), wanted, found)
            except RequestError:
                continue
            except BodiesError as error:
                # Who is honest holds what it has verified, and gives nothing else. All that came is dropped.
                self._network.drop(holder, f"gave wrong bodies: {error}")
                continue
            self._metrics.bodies_fetched.inc(len(missing))
            await trio.lowlevel.checkpoint()
        if any(leaf not in found for leaf in leaves):
            raise BodiesError("no member gave the bodies of the proposal")
        return [found[leaf] for leaf in leaves]

    def _take(self, envelopes: Sequence[bytes], wanted: set[bytes], found: dict[bytes, Transaction]) -> None:
        taken: dict[bytes, Transaction] = {}
        for envelope in envelopes:
            leaf = envelope_leaf(envelope)
            if leaf in found or leaf in taken:
                continue
            if leaf not in wanted:
                raise BodiesError("a body came that nobody asked for")
            try:
                transaction = decode_transaction(envelope)
                self._verify(transaction)
            except (DecodeError, SignatureError) as error:
                raise BodiesError(f"a transaction of the block is invalid: {error}") from None
            taken[leaf] = transaction
        found.update(taken)

    async def _answer(self, _peer: str, payload: bytes) -> bytes:
        try:
            leaves = LEAVES.decode(payload)
        except DecodeError as error:
            raise PeerFaultError(f"asked for bodies malformedly: {error}") from None
        envelopes: list[bytes] = []
        size_bytes = 0
        # Each body once, and as much as a block may hold: who asks for more wants no block, but our memory.
        for leaf in dict.fromkeys(leaves):
            transaction = self._in_flight.get(leaf) or self._mempool.by_leaf(leaf)
            if transaction is not None and size_bytes + len(transaction.envelope) <= BLOCK_BYTES_MAX:
                envelopes.append(transaction.envelope)
                size_bytes += len(transaction.envelope)
        return encode(tuple(envelopes))


def decode_bodies(data: bytes) -> tuple[bytes, ...]:
    """Decode the envelopes that travel with a proposal, or in an answer."""
    try:
        return BODIES.decode(data)
    except DecodeError as error:
        raise BodiesError(f"malformed bodies: {error}") from None
