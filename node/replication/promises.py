"""What this validator has promised, as its vote log keeps it: the engine's records, and bodies that it must hold."""

from collections.abc import Sequence

from consensus.engine import Recovered
from storage.ledger import Head
from storage.schema.transaction import Transaction
from storage.vote_log import VoteLog

_RECORD, _BODY = b"\x00", b"\x01"


class Promises:
    """The vote log of a validator; without one a node knows not what it promised, and only follows."""

    def __init__(self, vote_log: VoteLog | None, log_height: int = 0) -> None:
        """Take an open log; None if it was lost or damaged, or if it knows of a ``log_height`` above the ledger."""
        self._vote_log = vote_log
        self._log_height = log_height

    def recovered(self, head: Head) -> Recovered:
        """Return what the engine starts from."""
        records = tuple(entry[1:] for entry in self._stored if entry[:1] == _RECORD)
        is_whole = self._vote_log is not None or self._log_height > 0
        return Recovered(head.header, head.certificate, head.result_digest, records, is_whole, self._log_height)

    def bodies(self) -> tuple[bytes, ...]:
        """Return the envelopes of blocks that this validator promised to hold."""
        return tuple(entry[1:] for entry in self._stored if entry[:1] == _BODY)

    def keep(self, records: Sequence[bytes], transactions: Sequence[Transaction]) -> None:
        """Write records and bodies down, and return once they are on the disk.

        Raises:
            OSError, VoteLogError: the disk fails, or is full; the node must stop.
        """
        assert self._vote_log is not None, "who has no vote log does not vote"
        bodies = [_BODY + transaction.envelope for transaction in transactions]
        self._vote_log.append([*(_RECORD + record for record in records), *bodies])

    def truncate(self, records: Sequence[bytes], height: int) -> None:
        """Let go of everything but these records: up to ``height``, all is spent."""
        if self._vote_log is not None:
            self._vote_log.truncate([_RECORD + record for record in records], height)

    @property
    def _stored(self) -> tuple[bytes, ...]:
        return self._vote_log.records if self._vote_log is not None else ()
