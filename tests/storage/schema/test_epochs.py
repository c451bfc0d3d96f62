from typing import Any

import pytest
from msgspec.structs import replace

from storage.schema.block import VoteType, vote_preimage
from storage.schema.codec import encode
from storage.schema.epochs import EPOCHS_FILE, LINK, EpochError, EpochLink, Epochs, EpochsFile, load_epochs
from storage.schema.receipt import RECEIPT, Receipt, ReceiptError, verify_receipt
from storage.schema.signatures import sign
from storage.schema.validators import ValidatorSet
from tests.support.vectors import seed_of, vector_bytes, vector_genesis, vectors


def links() -> list[EpochLink]:
    return [LINK.decode(bytes.fromhex(link)) for link in vectors("epochs")["links"]]


def known() -> Epochs:
    return load_epochs(vector_bytes("epochs.bin"), vector_genesis())


def signed(link: EpochLink, by: ValidatorSet) -> EpochLink:
    """The link with a certificate for whatever it now says, by all of a set: what dishonest validators could sign."""
    header, result = link.header, link.result.digest()
    statement = (by.epoch, VoteType.COMMIT, 0, header.height, header.digest(), result)
    preimage = vote_preimage(vector_genesis().chain_id, *statement)
    signatures = tuple(sign(seed_of(f"{validator.name}/node"), preimage) for validator in by.validators)
    place = {"epoch": by.epoch, "view": 0, "height": header.height}
    stated = replace(link.certificate, **place, digest=header.digest(), result=result)
    return replace(link, certificate=replace(stated, signers=tuple(range(len(signatures))), signatures=signatures))


def test_the_file_of_the_vectors_leads_from_genesis_to_each_later_set() -> None:
    epochs = known()

    sets = [epochs.of(epoch) for epoch in range(3)]
    assert [encode(each).hex() for each in sets] == vectors("epochs")["sets"]
    assert [each.digest().hex() for each in sets] == vectors("epochs")["digests"]
    assert epochs.newest == sets[2]
    assert epochs.render() == vector_bytes("epochs.bin")


def test_without_a_link_only_the_set_of_genesis_is_known() -> None:
    epochs = Epochs(vector_genesis())

    assert epochs.of(0) == epochs.newest == vector_genesis().validators
    with pytest.raises(EpochError, match="epoch 1 are not known"):
        epochs.of(1)


def test_no_byte_of_the_file_can_be_changed() -> None:
    data = vector_bytes("epochs.bin")

    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(EpochError):
            load_epochs(changed, vector_genesis())


@pytest.mark.parametrize("order", [(1,), (0, 0), (1, 0), (0, 1, 1)])
def test_links_that_are_left_out_repeated_or_out_of_order_are_refused(order: tuple[int, ...]) -> None:
    file = EpochsFile(0, vector_genesis().chain_id, tuple(links()[number] for number in order))

    with pytest.raises(EpochError, match="not of this network's epoch"):
        load_epochs(encode(file), vector_genesis())


def test_a_file_of_another_network_or_version_is_refused() -> None:
    file = EPOCHS_FILE.decode(vector_bytes("epochs.bin"))

    for other in (replace(file, chain_id=bytes(32)), replace(file, version=1)):
        with pytest.raises(EpochError, match="another network, or of another version"):
            load_epochs(encode(other), vector_genesis())


@pytest.mark.parametrize(
    ("part", "fields", "why"),
    [
        ("header", {"epoch": 1}, "not of this network's epoch 0"),
        ("header", {"validators_hash": bytes(32)}, "not of this network's epoch 0"),
        ("header", {"chain_id": bytes(32)}, "not of this network's epoch 0"),
        ("header", {"time_ms": 1}, "another block"),
        ("result", {"outcome_count": 1}, "another result"),
        ("validators", {"epoch": 2}, "hands over to a set"),
        ("validators", {"engine": "raft"}, "hands over to a set"),
        ("certificate", {"signers": (0, 1), "signatures": (bytes(64),) * 2}, "2 signers, a quorum is 3"),
        ("certificate", {"signatures": (bytes(64),) * 3}, "does not verify"),
    ],
)
def test_a_link_that_says_something_else_than_was_signed_is_refused(
    part: str, fields: dict[str, Any], why: str
) -> None:
    first = links()[0]
    changed = replace(first, **{part: replace(getattr(first, part), **fields)})

    with pytest.raises(EpochError, match=why):
        Epochs(vector_genesis()).extend(changed)


def test_not_even_a_quorum_can_hand_over_to_a_set_of_another_epoch_than_the_next() -> None:
    first, genesis = links()[0], vector_genesis()
    skipping = replace(first.validators, epoch=7)
    result = replace(first.result, next_validators_hash=skipping.digest())

    with pytest.raises(EpochError, match="hands over to a set"):
        Epochs(genesis).extend(signed(replace(first, result=result, validators=skipping), genesis.validators))


def test_those_who_have_ceased_to_validate_can_add_no_link() -> None:
    epochs, second = known(), links()[1]
    before = epochs.of(1)
    header = replace(second.header, epoch=2, validators_hash=epochs.newest.digest())
    after = replace(before, epoch=3)
    result = replace(second.result, next_validators_hash=after.digest())
    forged = signed(EpochLink(header, result, second.certificate, after), replace(before, epoch=2))

    with pytest.raises(EpochError, match="certificate does not hold"):
        epochs.extend(forged)


def in_epoch(receipt: Receipt, by: ValidatorSet) -> bytes:
    """A receipt of the same transaction, in a block that this set decided."""
    header = replace(receipt.header, epoch=by.epoch, validators_hash=by.digest())
    link = signed(EpochLink(header, receipt.result, receipt.certificate, by), by)
    return encode(replace(receipt, header=header, certificate=link.certificate))


def test_a_receipt_of_a_later_epoch_verifies_with_the_chain_and_not_without() -> None:
    epochs = known()
    receipt = in_epoch(RECEIPT.decode(vector_bytes("receipt.bin")), epochs.newest)

    proven = verify_receipt(receipt, vector_genesis(), epochs)

    assert proven.signers == ("ministry", "north", "south", "west")
    assert (proven.quorum, proven.header.epoch) == (3, 2)
    with pytest.raises(ReceiptError, match="validators of epoch 2 are not known"):
        verify_receipt(receipt, vector_genesis())


def test_a_receipt_that_an_earlier_set_signed_for_a_later_epoch_is_refused() -> None:
    epochs = known()
    before = replace(epochs.of(1), epoch=2)
    receipt = in_epoch(RECEIPT.decode(vector_bytes("receipt.bin")), before)

    with pytest.raises(ReceiptError, match="validators are not those of its epoch"):
        verify_receipt(receipt, vector_genesis(), epochs)
