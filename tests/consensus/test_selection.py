from hypothesis import given
from hypothesis import strategies as st

from consensus.pbft.messages import Prepared, SignedChange
from consensus.pbft.selection import select, selected_digest
from storage.schema.block import ZERO_DIGEST, VoteType
from storage.schema.validators import faults_tolerated, quorum
from tests.consensus.replica_bench import Bench

BENCH = Bench()
HEADERS = {1: BENCH.header(), 2: BENCH.header(height=2, body=b"b", parent=BENCH.header())}


def brought(signer: int, height: int, prepared_view: int | None) -> SignedChange:
    head = BENCH.certificate(VoteType.COMMIT, HEADERS[height]) if height else None
    prepared = None
    if prepared_view is not None and height < 2:
        header = BENCH.header(height=height + 1, body=bytes([prepared_view]), parent=HEADERS.get(height))
        prepared = Prepared(BENCH.certificate(VoteType.PREPARE, header, prepared_view), header)
    return BENCH.change(signer, 9, head, prepared).signed


CHANGES = st.lists(
    st.builds(brought, st.integers(0, 3), st.integers(0, 2), st.none() | st.integers(0, 5)), min_size=1, max_size=7
)


@given(CHANGES)
def test_the_highest_view_among_those_at_the_highest_height_wins(changes: list[SignedChange]) -> None:
    base, chosen = select(changes)

    assert base == max(signed.change.height for signed in changes)
    views = [
        signed.change.prepared.certificate.view
        for signed in changes
        if signed.change.height == base and signed.change.prepared is not None
    ]
    assert (chosen.certificate.view if chosen else None) == max(views, default=None)


@given(CHANGES, st.data())
def test_the_order_of_the_changes_does_not_matter(changes: list[SignedChange], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(changes))

    assert select(shuffled) == select(changes)


def test_nothing_is_required_where_nothing_was_prepared() -> None:
    base, chosen = select([brought(0, 1, None), brought(1, 0, 4), brought(2, 1, None)])

    assert (base, selected_digest(chosen)) == (1, ZERO_DIGEST)


@given(st.integers(4, 128))
def test_two_quorums_share_an_honest_member_and_the_honest_make_one(count: int) -> None:
    decides, faulty = quorum(count), faults_tolerated(count)

    assert 2 * decides - count >= faulty + 1
    assert count - faulty >= decides
    # A new view's quorum meets every quorum of commits in an honest member, who carries the certificate.
    assert decides + decides - count > faulty
