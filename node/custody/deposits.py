"""How a record comes into custody: sealed while it streams in, registered, and kept only if the ledger says so.

Order of writing: the ciphertext under a provisional name, its key as pending, then the ciphertext's own name, then
the call. So whatever moment the node dies in, the next start knows of each half, and keeps both or neither.
"""

import logging
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass

import trio

from node.contracts.entries import load_record
from node.custody.custodian import Custodian
from node.custody.data_keys import DataKey, DataKeys
from node.custody.encryption import BlobSealer, new_data_key
from node.custody.labels import Labels
from node.custody.sealing import LOCATION_VERSION, Location, seal_pointer
from node.custody.vault import FileWriter, Vault
from node.custody.wire import Submit
from storage.ledger import Ledger
from storage.schema.calls import RegisterRecord
from storage.schema.transaction import derived_id, transaction_id

REGISTRATION_LIFETIME_S = 600
WRITE_BYTES = 1 << 20

log = logging.getLogger("caretrace.custody")


class DepositError(Exception):
    """A record was not taken in; nothing of it stays.

    Attributes:
        code: ``record.empty``, or the code by which the node refused the registration.
    """

    def __init__(self, code: str, detail: str) -> None:
        """Name the rule."""
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a record as it comes in; ``date`` is its clinical day (ISO 8601), empty when unknown."""

    patient: bytes
    category: str
    sensitivities: tuple[str, ...]
    date: str

    @property
    def year(self) -> int:
        """The year alone, which is what the ledger shows; 0 when unknown."""
        return int(self.date[:4]) if self.date else 0


@dataclass(frozen=True, slots=True)
class Deposited:
    """A record that is sealed, stored and handed in for registration; ``size_bytes`` is its content's."""

    record: bytes
    transaction: bytes
    size_bytes: int


class Deposits:
    """Takes records in, and keeps or removes them when the ledger has decided."""

    def __init__(
        self,
        custodian: Custodian,
        ledger: Ledger,
        submit: Submit,
        vault: Vault,
        data_keys: DataKeys,
        wall_ms: Callable[[], int],
    ) -> None:
        """Take up again what was pending when the node stopped."""
        self._custodian = custodian
        self._ledger = ledger
        self._submit = submit
        self._vault = vault
        self._data_keys = data_keys
        self._labels = Labels(data_keys)
        self._wall_ms = wall_ms
        self._pending = {record: data_keys.get(record).not_after_s for record in data_keys.pending()}
        self._decided: list[bytes] = []
        self._wake = trio.Event()
        self._look_for([record for record in self._pending if load_record(ledger.state, record)], self._head_s())

    async def take(self, content: AsyncIterable[bytes], about: About) -> Deposited:
        """Seal a content into the vault and hand its registration in; memory stays constant.

        Raises:
            DepositError: the content is empty, or the node does not take the call.
            LabelError: an unknown sensitivity.
            VaultFullError: no space is left.
        """
        tags = await trio.to_thread.run_sync(self._labels.tags, about.patient, about.sensitivities)
        key = new_data_key()
        sealer = BlobSealer(key)
        blob, file = self._vault.begin()
        with file:
            await self._write(file, sealer, content)
            if not sealer.size_bytes:
                raise DepositError("record.empty", "a record has at least one byte")
            location = Location(LOCATION_VERSION, blob, sealer.size_bytes, about.date)
            pointer = seal_pointer(self._custodian.encryption_key, location, sealer.commitment)
            call = RegisterRecord(about.patient, about.category, tags, about.year, sealer.commitment, pointer)
            not_after_s = max(self._head_s(), self._wall_ms() // 1000) + REGISTRATION_LIFETIME_S
            body, envelope = self._custodian.sign(not_after_s, "record.register", call)
            tx_id = transaction_id(body)
            record = derived_id(tx_id)
            await trio.to_thread.run_sync(self._store, record, DataKey(key, blob, not_after_s), file)
        self._pending[record] = not_after_s
        (answer,) = await self._submit((envelope,))
        if not isinstance(answer, bytes):
            self._look_for([record], self._head_s())
            raise DepositError(answer.code, answer.detail)
        return Deposited(record, tx_id, sealer.size_bytes)

    def on_block(self, time_ms: int, tx_ids: Iterable[bytes]) -> None:
        """Look for what is pending in a committed block; ``run`` then does the work on disk."""
        if self._pending:
            self._look_for([derived_id(tx_id) for tx_id in tx_ids], time_ms // 1000)

    async def run(self) -> None:
        """Keep what the ledger took and remove what it did not, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._decided:
                record = self._decided.pop(0)
                if load_record(self._ledger.state, record):
                    await trio.to_thread.run_sync(self._data_keys.confirm, record)
                else:
                    await trio.to_thread.run_sync(self._remove, record)
                    log.info("record %s was not registered; its ciphertext and key are removed", record.hex())

    async def _write(self, file: FileWriter, sealer: BlobSealer, content: AsyncIterable[bytes]) -> None:
        waiting = bytearray()
        async for part in content:
            waiting += sealer.update(part)
            if len(waiting) >= WRITE_BYTES:
                await trio.to_thread.run_sync(file.write, bytes(waiting))
                waiting.clear()
        waiting += sealer.finish()
        await trio.to_thread.run_sync(file.write, bytes(waiting))

    def _store(self, record: bytes, data_key: DataKey, file: FileWriter) -> None:
        self._data_keys.keep_pending(record, data_key)
        try:
            file.commit()
        except BaseException:
            self._data_keys.destroy(record)
            raise

    def _remove(self, record: bytes) -> None:
        # The ciphertext goes first: as long as the key is there, the next start still knows of both.
        self._vault.remove(self._data_keys.get(record).blob)
        self._data_keys.destroy(record)

    def _look_for(self, records: list[bytes], time_s: int) -> None:
        """Take out of what is pending: these records, and those whose call can no longer be included at this time."""
        late = [record for record, not_after_s in self._pending.items() if time_s > not_after_s]
        self._decided += [record for record in (*records, *late) if self._pending.pop(record, None) is not None]
        if self._decided:
            self._wake.set()

    def _head_s(self) -> int:
        return self._ledger.head.header.time_ms // 1000
