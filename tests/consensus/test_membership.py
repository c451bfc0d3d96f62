from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from storage.schema.block import Certificate, CertificateError, VoteType, verify_certificate
from tests.consensus.replica_bench import CHAIN_ID, RESULT, Bench
from tests.simulation.signing import RealSigner

BENCH = Bench(signers=RealSigner)
GOOD = BENCH.certificate(VoteType.COMMIT, BENCH.header())


@given(
    st.lists(st.integers(0, 4), max_size=5),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([RESULT, bytes(32), bytes([1]) * 32]),
    st.integers(-1, 1),
)
def test_a_commit_certificate_holds_here_exactly_if_it_holds_in_the_ledger(
    signers: list[int], epoch: int, view: int, result: bytes, surplus: int
) -> None:
    votes = [BENCH.vote(signer % 4, VoteType.COMMIT, BENCH.header()).signature for signer in signers]
    signatures = [*votes, bytes(64)][: max(len(votes) + surplus, 0)]
    certificate = replace(
        GOOD, signers=tuple(signers), signatures=tuple(signatures), epoch=epoch, view=view, result=result
    )

    here = Bench(signers=RealSigner).state.members.is_certificate(certificate, VoteType.COMMIT)

    assert here == holds_in_the_ledger(certificate)


def holds_in_the_ledger(certificate: Certificate) -> bool:
    try:
        verify_certificate(certificate, VoteType.COMMIT, CHAIN_ID, BENCH.validators)
    except CertificateError:
        return False
    return True


def test_a_certificate_is_checked_once_and_not_taken_for_another_kind() -> None:
    bench = Bench()
    commit = bench.certificate(VoteType.COMMIT, bench.header())
    prepare = bench.certificate(VoteType.PREPARE, bench.header())
    members = bench.state.members

    kinds = [
        members.is_certificate(certificate, kind)
        for certificate in (commit, prepare)
        for kind in (VoteType.COMMIT, VoteType.PREPARE, VoteType.COMMIT, VoteType.PREPARE)
    ]

    assert kinds == [True, False, True, False, False, True, False, True]
    assert len(bench.signer.checked) == 6


def test_what_is_remembered_of_certificates_is_bounded() -> None:
    bench = Bench()

    for view in range(40):
        assert bench.state.members.is_certificate(
            bench.certificate(VoteType.COMMIT, bench.header(), view), VoteType.COMMIT
        )

    assert len(bench.state.members._verified) <= 2 * bench.count + 1


def test_a_statement_of_a_position_that_does_not_exist_was_signed_by_nobody() -> None:
    vote = replace(BENCH.vote(2, VoteType.PREPARE, BENCH.header()), signer=9)

    assert not BENCH.state.members.has_signed(9, vote)
