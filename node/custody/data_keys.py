"""The data keys of the records that this member keeps: one file each, sealed to the member's encryption key.

They stand apart from the ciphertext, so that a copy of the vault alone opens nothing, and a backup keeps them apart.
A key is pending until its record stands on the ledger; if it never will, key and ciphertext go again.
"""

from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Annotated

import msgspec

from node.custody.encryption import DATA_KEY_BYTES
from node.custody.sealing import BLOB_ID_BYTES, SealError, open_at_rest, seal_at_rest
from node.custody.vault import BlobNotFoundError, Folder, VaultError
from storage.schema.codec import DecodeError, Form, Uint, Value, encode

_FILE_BYTES_MAX = 1024
_PENDING = ".pending"
_LABEL = "label-"


class DataKeyDamagedError(VaultError):
    """A file of data keys does not open under this member's encryption key."""

    code = "vault.key_damaged"


class DataKey(Value, frozen=True):
    """A record's data key, which blob it opens, and until when (block time) its registration may still land."""

    key: Annotated[bytes, msgspec.Meta(min_length=DATA_KEY_BYTES, max_length=DATA_KEY_BYTES)]
    blob: Annotated[bytes, msgspec.Meta(min_length=BLOB_ID_BYTES, max_length=BLOB_ID_BYTES)]
    not_after_s: Uint


_DATA_KEY: Form[DataKey] = Form(DataKey, 256)


class DataKeys:
    """The folder of data keys, by record."""

    def __init__(self, folder: Folder, encryption_key: bytes, encryption_secrets: Sequence[bytes]) -> None:
        """Seal to ``encryption_key``; open with its secret, or with those of keys before it (X25519, 32 bytes each)."""
        self._folder = folder
        self._public = encryption_key
        self._secrets = encryption_secrets
        self._labelling = Lock()

    def keep_pending(self, record: bytes, data_key: DataKey) -> None:
        """Write down the key of a record that is about to be registered.

        Raises:
            VaultFullError: nothing changed.
        """
        self._write(f"{record.hex()}{_PENDING}", encode(data_key), record)

    def confirm(self, record: bytes) -> None:
        """The record stands on the ledger: its key is no longer pending."""
        self._folder.rename(f"{record.hex()}{_PENDING}", record.hex())

    def get(self, record: bytes) -> DataKey:
        """Return a record's key, pending or not.

        Raises:
            BlobNotFoundError: this member has no key of that record.
            DataKeyDamagedError: the file was changed, or sealed to another key.
        """
        content = self._read(record)
        try:
            return _DATA_KEY.decode(content)
        except DecodeError as error:
            raise DataKeyDamagedError(f"the data key of {record.hex()} is malformed: {error}") from None

    def destroy(self, record: bytes) -> None:
        """Remove a record's key: its ciphertext can never be opened again."""
        self._folder.remove(record.hex())
        self._folder.remove(f"{record.hex()}{_PENDING}")

    def pending(self) -> list[bytes]:
        """Return the records whose keys are pending."""
        names = (name for name in self._folder.names() if name.endswith(_PENDING))
        return [bytes.fromhex(name.removesuffix(_PENDING)) for name in names]

    def label_key(self, patient: bytes, fresh: bytes) -> bytes:
        """Return the label key of a patient, which is ``fresh`` if there was none yet.

        Raises:
            VaultFullError: a first key could not be written down.
            DataKeyDamagedError: the file was changed, or sealed to another key.
        """
        name = f"{_LABEL}{patient.hex()}"
        # Two first records of a patient may come in at once, each in a thread of its own.
        with self._labelling:
            try:
                return self._open(name, patient)
            except BlobNotFoundError:
                self._write(name, fresh, patient)
                return fresh

    def _write(self, name: str, secret: bytes, subject: bytes) -> None:
        self._folder.write(name, seal_at_rest(self._public, secret, subject))

    def _read(self, record: bytes) -> bytes:
        # Asked twice by its final name: between the first two looks another thread may have confirmed it.
        for name in (record.hex(), f"{record.hex()}{_PENDING}"):
            with suppress(BlobNotFoundError):
                return self._open(name, record)
        return self._open(record.hex(), record)

    def _open(self, name: str, subject: bytes) -> bytes:
        sealed = self._folder.read(name, 0, _FILE_BYTES_MAX)
        try:
            return open_at_rest(self._secrets, sealed, subject)
        except SealError as error:
            raise DataKeyDamagedError(f"{name}: {error}") from None
