from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from storage.schema.block import (
    CERTIFICATE,
    ZERO_DIGEST,
    Certificate,
    CertificateError,
    VoteType,
    verify_certificate,
    vote_preimage,
)
from storage.schema.codec import encode
from storage.schema.signatures import public_key_of, sign
from storage.schema.validators import VALIDATORS_MAX, Validator, ValidatorSet
from tests.support.vectors import vector_genesis, vectors

CHAIN_ID, DIGEST, RESULT = b"c" * 32, b"d" * 32, b"r" * 32
EPOCH, VIEW, HEIGHT = 2, 5, 9
COMMIT, PREPARE, PROPOSAL = VoteType.COMMIT, VoteType.PREPARE, VoteType.PROPOSAL


def seed(position: int) -> bytes:
    return bytes([position]) * 32


def validators(count: int = 4, epoch: int = EPOCH) -> ValidatorSet:
    members = (Validator(f"member-{number:03}", public_key_of(seed(number))) for number in range(count))
    return ValidatorSet(epoch, "pbft", tuple(members))


def signed(
    position: int, vote_type: VoteType, *, view: int = VIEW, epoch: int = EPOCH, digest: bytes = DIGEST
) -> bytes:
    result = RESULT if vote_type is COMMIT else ZERO_DIGEST
    return sign(seed(position), vote_preimage(CHAIN_ID, epoch, vote_type, view, HEIGHT, digest, result))


def certificate(signers: Iterable[int], vote_type: VoteType = COMMIT) -> Certificate:
    positions = tuple(signers)
    result = RESULT if vote_type is COMMIT else ZERO_DIGEST
    signatures = tuple(signed(position, vote_type) for position in positions)
    return Certificate(EPOCH, VIEW, HEIGHT, DIGEST, result, positions, signatures)


def refused(value: Certificate, vote_type: VoteType = COMMIT, by: ValidatorSet | None = None) -> str:
    with pytest.raises(CertificateError) as error:
        verify_certificate(value, vote_type, CHAIN_ID, by or validators())
    return str(error.value)


@pytest.mark.parametrize(("name", "vote_type"), [("prepared_certificate", PREPARE), ("commit_certificate", COMMIT)])
def test_the_certificates_of_the_vectors_prove_their_statement(name: str, vote_type: VoteType) -> None:
    genesis, data = vector_genesis(), bytes.fromhex(vectors("block")[name])
    value = CERTIFICATE.decode(data)

    verify_certificate(value, vote_type, genesis.chain_id, genesis.validators)

    assert encode(value) == data
    assert value.digest.hex() == vectors("block")["header"]["digest"]


@pytest.mark.parametrize("vote_type", [COMMIT, PREPARE])
@pytest.mark.parametrize("signers", [(0, 1, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_any_quorum_proves_its_statement(signers: tuple[int, ...], vote_type: VoteType) -> None:
    verify_certificate(certificate(signers, vote_type), vote_type, CHAIN_ID, validators())


def test_a_prepared_certificate_may_hold_the_proposal_of_the_primary() -> None:
    value = certificate((0, 1, 3), PREPARE)
    mixed = replace(value, signatures=(value.signatures[0], signed(1, PROPOSAL), value.signatures[2]))

    verify_certificate(mixed, PREPARE, CHAIN_ID, validators())


def test_the_largest_set_makes_a_certificate_within_the_limit() -> None:
    everyone = validators(VALIDATORS_MAX)
    value = certificate(range(VALIDATORS_MAX))

    verify_certificate(CERTIFICATE.decode(encode(value)), COMMIT, CHAIN_ID, everyone)


def test_too_few_signers_prove_nothing() -> None:
    assert "2 signers, a quorum is 3" in refused(certificate((0, 1)))
    assert "0 signers" in refused(certificate(()))
    assert "4 signers, a quorum is 5" in refused(certificate((0, 1, 2, 3)), by=validators(7))


def test_a_signer_counts_once() -> None:
    assert "distinct" in refused(certificate((0, 1, 1)))


def test_signers_stand_in_ascending_order() -> None:
    assert "ascending" in refused(certificate((0, 2, 1)))


def test_a_signer_that_is_no_validator_is_refused() -> None:
    assert "distinct members" in refused(certificate((0, 1, 4)))
    assert "distinct members" in refused(replace(certificate((0, 1, 2)), signers=(0, 1, 2**63 - 1)))


def test_signatures_must_be_as_many_as_signers() -> None:
    value = certificate((0, 1, 2))

    assert "signers" in refused(replace(value, signatures=value.signatures[:2]))
    assert "signers" in refused(replace(value, signatures=(*value.signatures, value.signatures[0])))


def test_a_signature_under_another_members_position_is_refused() -> None:
    value = certificate((0, 1, 2))

    assert "does not verify" in refused(replace(value, signers=(0, 1, 3)))


def test_a_certificate_of_another_epoch_is_refused() -> None:
    assert "of epoch 2, not 3" in refused(certificate((0, 1, 2)), by=validators(epoch=3))
    assert "does not verify" in refused(replace(certificate((0, 1, 2)), epoch=3), by=validators(epoch=3))


@pytest.mark.parametrize("part", ["view", "height"])
def test_a_certificate_with_another_view_or_height_is_refused(part: str) -> None:
    value = certificate((0, 1, 2))

    assert "does not verify" in refused(replace(value, **{part: getattr(value, part) + 1}))


def test_a_certificate_about_another_block_or_result_is_refused() -> None:
    assert "does not verify" in refused(replace(certificate((0, 1, 2)), digest=b"e" * 32))
    assert "does not verify" in refused(replace(certificate((0, 1, 2)), result=b"s" * 32))


def test_votes_of_several_views_are_never_mixed() -> None:
    for vote_type in (COMMIT, PREPARE):
        value = certificate((0, 1, 2), vote_type)
        earlier = signed(2, vote_type, view=VIEW - 1)

        assert "does not verify" in refused(replace(value, signatures=(*value.signatures[:2], earlier)), vote_type)


def test_votes_of_several_types_are_never_mixed_into_a_commit() -> None:
    value = certificate((0, 1, 2))

    for other in (PREPARE, PROPOSAL):
        assert "does not verify" in refused(replace(value, signatures=(*value.signatures[:2], signed(2, other))))


def test_a_vote_of_another_type_over_the_very_same_statement_does_not_count() -> None:
    for vote_type, other, result in (
        (COMMIT, PREPARE, RESULT),
        (COMMIT, PROPOSAL, RESULT),
        (PREPARE, COMMIT, ZERO_DIGEST),
    ):
        value = certificate((0, 1, 2), vote_type)
        odd = sign(seed(2), vote_preimage(CHAIN_ID, EPOCH, other, VIEW, HEIGHT, DIGEST, result))

        assert "does not verify" in refused(replace(value, signatures=(*value.signatures[:2], odd)), vote_type)


def test_prepares_are_no_commit_and_commits_are_no_prepare() -> None:
    assert "a result stands in a COMMIT" in refused(certificate((0, 1, 2), PREPARE), COMMIT)
    assert "a result stands in a COMMIT" in refused(certificate((0, 1, 2), COMMIT), PREPARE)
    prepared_as_commit = replace(certificate((0, 1, 2), PREPARE), result=RESULT)
    assert "does not verify" in refused(prepared_as_commit, COMMIT)


def test_a_certificate_of_another_network_is_refused() -> None:
    with pytest.raises(CertificateError, match="does not verify"):
        verify_certificate(certificate((0, 1, 2)), COMMIT, b"x" * 32, validators())
