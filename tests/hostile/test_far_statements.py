"""A validator's own signed statements about other epochs, chains, views and heights: they move nobody."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from consensus.pbft.messages import Answer, Hello, Message, Vote
from node.network.limits import MIB
from storage.schema.block import VoteType, vote_preimage
from storage.schema.codec import encode
from storage.schema.signatures import sign
from tests.support.hostile_network import HONEST, rss_bytes
from tests.support.hostile_validator import HostileValidator
from tests.support.raw_calls import harmless, order
from tests.support.running_network import until

pytestmark = pytest.mark.cluster

# The last views and heights that there are.
FAR = 2**63 - 4
# In one of four views, or at one of four heights, the hostile member is primary.
FROM_FAR = range(FAR, FAR + 4)


def votes(bad: HostileValidator, views: Sequence[int] = (), heights: Sequence[int] = (), **fields: Any) -> list[Vote]:
    """Well signed PREPAREs for these places, or for the next height in the next view, where another is primary."""
    made = bad.block(harmless(bad.network), view=bad.network.status("north")["view"] + 1)
    places = [(view, height) for view in views or (made.view,) for height in heights or (made.header.height,)]
    return [
        signed(bad, msgspec.structs.replace(bad.vote(VoteType.PREPARE, made), view=view, height=height, **fields))
        for view, height in places
        if not bad.is_primary(view, height)
    ]


def signed(bad: HostileValidator, cast: Vote, chain_id: bytes | None = None) -> Vote:
    place = (cast.epoch, cast.kind, cast.view, cast.height, cast.digest, cast.result)
    preimage = vote_preimage(chain_id or bad.genesis.chain_id, *place)
    return msgspec.structs.replace(cast, signature=sign(bad.member.node_seed, preimage))


def commit(bad: HostileValidator, view: int, height: int) -> Vote:
    """A well signed COMMIT of a block and a result that nobody has heard of."""
    return signed(bad, Vote(VoteType.COMMIT, 0, view, height, b"\x01" * 32, b"\x02" * 32, bad.position, bytes(64)))


STATEMENTS: dict[str, Callable[[HostileValidator, int], Sequence[Message]]] = {
    "votes of other epochs": lambda bad, _: votes(bad, epoch=1) + votes(bad, epoch=FAR),
    "a vote of another chain": lambda bad, _: [signed(bad, vote, bytes(32)) for vote in votes(bad)],
    "votes of views that are far away": lambda bad, _: votes(bad, views=FROM_FAR),
    "votes of heights that are far away": lambda bad, _: votes(bad, heights=FROM_FAR),
    "votes of heights that are long past": lambda bad, _: votes(bad, heights=range(4)),
    "commits that are far away": lambda bad, height: [commit(bad, FAR, height), commit(bad, FAR, FAR)],
    "a proposal of a view that is far away": lambda bad, height: [
        bad.proposal(bad.block(harmless(bad.network), view=view)) for view in FROM_FAR if bad.is_primary(view, height)
    ],
    "a view change into a view that is far away": lambda bad, _: [bad.change(FAR)],
    "a status in a view that is far away": lambda bad, _: [bad.status(FAR)],
    "greetings and answers that nobody waits for": lambda bad, height: [
        Hello(0, bytes(16)),
        Hello(FAR, bytes(16)),
        Answer(bytes(16), commit(bad, FAR, height), bad.change(FAR).signed),
    ],
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_nobody_is_moved_by(bad: HostileValidator, what: str) -> None:
    view = bad.take_turn()

    statements = STATEMENTS[what](bad, bad.chain.head.header.height + 1)
    # Twice: as news, and as what is known.
    for message in (*statements, *statements):
        bad.member.tell(message, *HONEST)
    bad.member.tell(bad.proposal(bad.block(view=view)), *HONEST)
    proven = order(bad.network)

    # The empty block, which comes too early, took them on, by a view for each time that patience was lost.
    until(lambda: bad.network.is_level(*HONEST))
    assert proven.header.height == bad.chain.head.header.height + 1
    assert view < proven.header.first_view < view + 10
    assert bad.member.is_connected(*HONEST)


def test_what_this_member_said_before_counts_for_nothing_when_it_says_it_again(bad: HostileValidator) -> None:
    view = bad.take_turn()
    block = bad.block(harmless(bad.network), view=view)
    said: list[Message] = [bad.proposal(block), bad.vote(VoteType.COMMIT, block, bad.result_of(block))]
    for message in said:
        bad.member.tell(message, *HONEST)
    until(lambda: {bad.network.status(name)["height"] for name in HONEST} == {block.header.height})

    for message in said:
        bad.member.tell(message, *HONEST)
    proven = order(bad.network)

    assert proven.header.height == block.header.height + 1
    assert bad.member.is_connected(*HONEST)


def test_a_flood_of_votes_from_everywhere_fills_no_memory_and_stops_no_commit(bad: HostileValidator) -> None:
    bad.follow()
    height = bad.chain.head.header.height + 1
    cast = commit(bad, FAR, height)
    places = [(view, height + ahead) for view in range(FAR - 2500, FAR) for ahead in range(4)]
    flood = [encode(msgspec.structs.replace(cast, view=view, height=above)) for view, above in places]
    before = {name: rss_bytes(bad.network, name) for name in HONEST}

    bad.member.flood(flood, *HONEST)
    proven = order(bad.network)

    assert proven.header.height == height
    assert bad.member.is_connected(*HONEST)
    assert all(rss_bytes(bad.network, name) - size < 16 * MIB for name, size in before.items())
