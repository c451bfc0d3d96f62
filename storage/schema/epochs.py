"""The chain of epochs: how anyone learns from genesis alone who votes now (docs/spec/epochs.md).

A block whose execution changes the validator set ends its epoch: its certificate, by the set in force, covers the
digest of the next one. One link for each such block leads from genesis to the newest set.
"""

from typing import Annotated

import msgspec

from storage.schema.block import (
    Certificate,
    CertificateError,
    Header,
    Result,
    VoteType,
    certified,
    verify_certificate,
)
from storage.schema.codec import Bytes32, DecodeError, Form, Uint, Value, encode
from storage.schema.genesis import Genesis
from storage.schema.validators import ValidatorSet

EPOCHS_VERSION = 0
LINK_BYTES_MAX = 32 * 1024
EPOCHS_BYTES_MAX = 8 << 20
LINKS_MAX = 4096


class EpochError(Exception):
    """A chain of epochs does not lead from genesis to where it states, or not as far as is asked."""

    code = "epochs.invalid"


class EpochLink(Value, frozen=True, tag="voted"):
    """The last block of an epoch, under its certificate, and the set that it hands over to."""

    header: Header
    result: Result
    certificate: Certificate
    validators: ValidatorSet


class EpochsFile(Value, frozen=True):
    """The chain as a file: for the network of this ``chain_id``, all links in order."""

    version: Uint
    chain_id: Bytes32
    links: Annotated[tuple[EpochLink, ...], msgspec.Meta(max_length=LINKS_MAX)]


LINK: Form[EpochLink] = Form(EpochLink, LINK_BYTES_MAX)
EPOCHS_FILE: Form[EpochsFile] = Form(EpochsFile, EPOCHS_BYTES_MAX)


class Epochs:
    """The validator sets of a network, from that of genesis on; each was proven by the one before it."""

    def __init__(self, genesis: Genesis) -> None:
        """Begin with what the founders signed."""
        self.chain_id = genesis.chain_id
        self._sets = [genesis.validators]
        self._links: list[EpochLink] = []

    @property
    def newest(self) -> ValidatorSet:
        """The set of the last epoch that is known."""
        return self._sets[-1]

    @property
    def handover_height(self) -> int:
        """The height of the block that handed over to the newest set; 0 if that is the set of genesis."""
        return self._links[-1].header.height if self._links else 0

    @property
    def links(self) -> tuple[EpochLink, ...]:
        """The links that lead to the newest set, in order."""
        return tuple(self._links)

    def of(self, epoch: int) -> ValidatorSet:
        """Return the set of an epoch.

        Raises:
            EpochError: the chain does not reach it.
        """
        if not 0 <= epoch < len(self._sets):
            raise EpochError(
                f"the validators of epoch {epoch} are not known: the chain ends with {len(self._sets) - 1}"
            )
        return self._sets[epoch]

    def extend(self, link: EpochLink) -> None:
        """Take the next link, if it holds.

        Raises:
            EpochError: names what does not follow from the newest set.
        """
        newest, header = self.newest, link.header
        if (header.chain_id, header.epoch, header.validators_hash) != (self.chain_id, newest.epoch, newest.digest()):
            raise EpochError(f"a link is not of this network's epoch {newest.epoch}")
        if not certified(header, link.result, link.certificate):
            raise EpochError("a link's certificate is about another block or another result")
        if link.validators.epoch != newest.epoch + 1 or link.result.next_validators_hash != link.validators.digest():
            raise EpochError("a link hands over to a set that its block does not name")
        try:
            verify_certificate(link.certificate, VoteType.COMMIT, self.chain_id, newest)
        except CertificateError as error:
            raise EpochError(f"a link's certificate does not hold: {error}") from None
        self.append(link)

    def append(self, link: EpochLink) -> None:
        """Take the next link, which is known to hold: its block has just been committed here."""
        assert link.validators.epoch == len(self._sets), "epochs follow each other"
        self._sets.append(link.validators)
        self._links.append(link)

    def render(self) -> bytes:
        """Write the chain as a file."""
        return encode(EpochsFile(EPOCHS_VERSION, self.chain_id, tuple(self._links)))


def load_epochs(data: bytes, genesis: Genesis) -> Epochs:
    """Read a file of epochs, and prove each set from that of genesis on.

    Raises:
        EpochError: it is malformed, of another network, or a link does not hold.
    """
    try:
        file = EPOCHS_FILE.decode(data)
    except DecodeError as error:
        raise EpochError(f"not a file of epochs: {error}") from None
    if (file.version, file.chain_id) != (EPOCHS_VERSION, genesis.chain_id):
        raise EpochError("it is of another network, or of another version")
    epochs = Epochs(genesis)
    for link in file.links:
        epochs.extend(link)
    return epochs
