"""Receipts of committed transactions; the trees of the newest blocks are kept, so that each further one is cheap."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import msgspec

from storage.blocks import Blocks
from storage.database import AREAS, OUTCOMES, TX_INDEX, DatabaseCorruptError
from storage.merkle import log
from storage.schema.block import OUTCOME
from storage.schema.codec import DecodeError, encode
from storage.schema.receipt import RECEIPT_VERSION
from storage.schema.transaction import envelope_leaf

BLOCKS_KEPT_MAX = 8


@dataclass(frozen=True, slots=True)
class _Proofs:
    """A block taken apart: everything that its receipts share, and both its trees level by level."""

    envelopes: tuple[bytes, ...]
    outcomes: tuple[bytes, ...]
    outcome_index: dict[bytes, int]
    tx_levels: tuple[Sequence[bytes], ...]
    outcome_levels: tuple[Sequence[bytes], ...]
    shared: tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw]


class Receipts:
    """Makes receipts of the blocks that are stored."""

    def __init__(self, blocks: Blocks) -> None:
        """Make receipts from these blocks."""
        self._blocks = blocks
        self._kept: OrderedDict[int, _Proofs] = OrderedDict()
        self._lock = Lock()

    def receipt(self, tx_id: bytes, height: int, index: int) -> bytes:
        """Return the receipt file of a transaction that stands at this height and index.

        Raises:
            DatabaseCorruptError: what is stored does not fit together.
        """
        with self._lock:
            proofs = self._proofs(height)
        outcome_index = proofs.outcome_index.get(tx_id)
        if index >= len(proofs.envelopes) or outcome_index is None:
            raise DatabaseCorruptError(AREAS[TX_INDEX], "an entry names a block without that transaction", height)
        result, header, certificate = proofs.shared
        return encode(
            (
                RECEIPT_VERSION,
                proofs.envelopes[index],
                index,
                log.path_in(proofs.tx_levels, index),
                msgspec.Raw(proofs.outcomes[outcome_index]),
                outcome_index,
                log.path_in(proofs.outcome_levels, outcome_index),
                result,
                header,
                certificate,
            )
        )

    def _proofs(self, height: int) -> _Proofs:
        kept = self._kept.get(height)
        if kept is None:
            kept = self._kept[height] = self._taken_apart(height)
            if len(self._kept) > BLOCKS_KEPT_MAX:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(height)
        return kept

    def _taken_apart(self, height: int) -> _Proofs:
        block = self._blocks.block(height)
        try:
            outcomes = [OUTCOME.decode(outcome) for outcome in block.outcomes]
        except DecodeError as error:
            raise DatabaseCorruptError(AREAS[OUTCOMES], str(error), height) from None
        return _Proofs(
            envelopes=block.envelopes,
            outcomes=block.outcomes,
            outcome_index={o.id: index for index, o in enumerate(outcomes) if o.source == "transaction"},
            tx_levels=log.levels([envelope_leaf(envelope) for envelope in block.envelopes]),
            outcome_levels=log.levels([log.leaf_hash(outcome) for outcome in block.outcomes]),
            shared=(
                msgspec.Raw(encode(block.result)),
                msgspec.Raw(encode(block.header)),
                msgspec.Raw(encode(block.certificate)),
            ),
        )
