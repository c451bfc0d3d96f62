"""A disk that loses what was not synced: the vote log, and beside it the ledger whose batches are synced and whole."""

from dataclasses import dataclass, field

from storage.schema.block import Certificate, Header
from tests.simulation.virtual_world import World


@dataclass(frozen=True)
class StoredBlock:
    header: Header
    certificate: Certificate | None
    result: bytes
    transactions: tuple[bytes, ...]


@dataclass(frozen=True)
class Write:
    """An operation on the vote log: records to append, with a block's bodies; or, ``whole``, a new log to begin."""

    records: tuple[bytes, ...]
    whole: bool = False
    bodies: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()


@dataclass
class Disk:
    """What survives a crash, and the writes that have not been synced yet."""

    ledger: list[StoredBlock]
    log: list[bytes] = field(default_factory=list)
    log_whole: bool = True
    log_height: int = 0
    bodies: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    unsynced: list[Write] = field(default_factory=list)
    written: int = 0
    synced: int = 0

    @property
    def head(self) -> StoredBlock:
        return self.ledger[-1]

    def write(self, write: Write) -> int:
        """Hand a write to the operating system; returns its number, for ``sync``."""
        self.unsynced.append(write)
        self.written += 1
        return self.written

    def sync(self, number: int) -> None:
        """All writes up to a number have reached the disk."""
        while self.synced < number:
            self._apply(self.unsynced.pop(0))
            self.synced += 1

    def crash(self, world: World) -> bool:
        """Lose the unsynced writes but for a prefix that happened to reach the disk; tells whether any were lost.

        The last write of the prefix may be torn: its bodies are there and some of its records.
        """
        survivors = world.between(0, len(self.unsynced)) if world.chance(0.5) else 0
        for write in self.unsynced[:survivors]:
            self._apply(write)
        lost = self.unsynced[survivors:]
        if lost and not lost[0].whole and world.chance(0.5):
            torn = lost[0].records[: world.between(0, len(lost[0].records))]
            self._apply(Write(torn, bodies=lost[0].bodies))
        self.unsynced = []
        self.written = self.synced = 0
        return any(write.records for write in lost)

    def _apply(self, write: Write) -> None:
        if write.whole:
            self.log = []
            self.bodies = {}
        self.log.extend(write.records)
        self.bodies.update(write.bodies)
