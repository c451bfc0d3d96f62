"""The chain of epochs as it is stored: beside each block that ended its epoch, the link to the next validator set."""

from typing import Any

from storage.database import AREAS, EPOCH, DatabaseCorruptError, Reader
from storage.schema.codec import DecodeError, encode
from storage.schema.epochs import LINK, EpochError, EpochLink, Epochs
from storage.schema.genesis import Genesis


def load_epochs(reader: Reader, genesis: Genesis) -> Epochs:
    """Read the chain and prove it from genesis on; a few signatures for each epoch.

    Raises:
        DatabaseCorruptError: a link is missing, or does not hold.
    """
    epochs = Epochs(genesis)
    for key, stored in reader.scan(EPOCH):
        if key[1:] != _epoch_key(epochs.newest.epoch + 1):
            raise DatabaseCorruptError(AREAS[EPOCH], f"the link to epoch {epochs.newest.epoch + 1} is missing")
        try:
            epochs.extend(LINK.decode(stored))
        except (DecodeError, EpochError) as error:
            raise DatabaseCorruptError(AREAS[EPOCH], str(error)) from None
    return epochs


def stage_link(batch: Any, link: EpochLink) -> None:
    """Add a link to the batch that commits the block which ended its epoch."""
    batch.put(EPOCH + _epoch_key(link.validators.epoch), encode(link))


def _epoch_key(epoch: int) -> bytes:
    return epoch.to_bytes(8, "big")
