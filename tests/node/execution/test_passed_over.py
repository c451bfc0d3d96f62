"""By which blocks a backup sees that the primary left something out, and by which it must not."""

from collections.abc import Sequence
from itertools import count

import pytest

from node.execution.includable import passed_over
from node.mempool import Mempool
from storage.schema.calls import Exclude, Grant, RegisterPatient, RequestAccess, Revoke
from storage.schema.genesis import Parameters
from storage.schema.transaction import Transaction, derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import Story

SMALL = Parameters(block_tx_max=4, payer_tx_per_block_max=4)
numbers = count()


def newcomer(story: Story, member: str = "north") -> Transaction:
    patient = Actor(f"newcomer {next(numbers)}")
    call, signers = RegisterPatient(patient.sealing_key), [patient, service(member)]
    return story.sign("identity.register_patient", call, signers, member)


def exclusion(story: Story) -> Transaction:
    """An urgent call that needs nothing to be there."""
    return story.sign("consent.exclude", Exclude(provision(effect="deny"), False), [story.pia], "north")


def revocation(story: Story, consent: bytes) -> Transaction:
    return story.sign("consent.revoke", Revoke(consent), [story.pia], "north")


def is_passed_over(story: Story, waiting: Transaction, block: Sequence[Transaction]) -> bool:
    """Order a block, and judge what it left out."""
    story.order(*block)
    return passed_over([waiting], block, story.time_ms, story.ledger, story.genesis) == [waiting]


def test_what_would_have_found_room_was_passed_over() -> None:
    story = Story(SMALL)
    waiting = newcomer(story)

    assert is_passed_over(story, waiting, [newcomer(story) for _ in range(3)])


@pytest.mark.parametrize("others", [{"south": 2}, {"south": 1, "east": 1}])
def test_a_full_block_in_which_every_member_had_its_turn_passes_over_nothing(others: dict[str, int]) -> None:
    story = Story(SMALL)
    block = [newcomer(story, member) for member, turns in others.items() for _ in range(turns)]
    block += [newcomer(story) for _ in range(SMALL.block_tx_max - len(block))]

    assert not is_passed_over(story, newcomer(story), block)


def test_a_full_block_passes_over_whose_member_had_fewer_turns_than_another() -> None:
    story = Story(SMALL)
    block = [newcomer(story), *(newcomer(story, "south") for _ in range(3))]

    assert is_passed_over(story, newcomer(story), block)


def test_a_member_that_has_spent_its_share_of_the_block_is_not_passed_over() -> None:
    story = Story(Parameters(block_tx_max=4, payer_tx_per_block_max=1))

    assert not is_passed_over(story, newcomer(story), [newcomer(story), newcomer(story, "south")])


def test_a_block_full_of_ordinary_calls_passes_an_urgent_one_over() -> None:
    story = Story(SMALL)

    assert is_passed_over(story, exclusion(story), [newcomer(story) for _ in range(4)])


def test_urgent_calls_take_the_turns_of_urgent_ones_only() -> None:
    story = Story(SMALL)
    blocks = [[exclusion(story) for _ in range(4)] for _ in range(2)]

    assert not is_passed_over(story, exclusion(story), blocks[0])
    assert not is_passed_over(story, newcomer(story, "south"), blocks[1])


def test_a_member_that_fills_blocks_with_urgent_calls_passes_anothers_over() -> None:
    story = Story(SMALL)
    zoe = Actor("zoe")
    story.register(zoe, "south")
    of_south = [
        story.sign("consent.exclude", Exclude(provision(effect="deny"), False), [zoe], "south") for _ in range(4)
    ]

    assert is_passed_over(story, exclusion(story), of_south)


def test_a_revocation_is_passed_over_as_soon_as_there_is_something_to_revoke() -> None:
    story = Story(SMALL)
    grant = story.sign("consent.grant", Grant(provision(purposes=("TREAT",)), None), [story.pia], "north")
    waiting = revocation(story, derived_id(grant.id))

    assert not is_passed_over(story, waiting, [newcomer(story)])
    story.order(grant)
    assert is_passed_over(story, waiting, [newcomer(story)])


def test_what_cannot_be_included_is_passed_over_by_nobody() -> None:
    story = Story(SMALL)
    expired = story.sign("consent.revoke", Revoke(bytes(32)), [story.pia], "north", not_after_s=story.time_s)
    ordered = newcomer(story)
    stranger = story.sign("access.request", RequestAccess(story.record, "TREAT"), [Actor("nobody")], "north")

    found = [is_passed_over(story, each, [newcomer(story)]) for each in (expired, stranger)]
    found.append(is_passed_over(story, ordered, [ordered]))

    assert found == [False, False, False]


@pytest.mark.parametrize("waiting_count", [3, 9, 40])
def test_a_primary_that_drafts_by_the_rules_passes_over_nothing_however_much_waits(waiting_count: int) -> None:
    story, pool = Story(SMALL), Mempool()
    for number in range(waiting_count):
        pool.add(newcomer(story, ("north", "south", "east")[number % 7 % 3]))
        if number % 3 == 0:
            pool.add(exclusion(story))

    found: list[Transaction] = []
    while pool:
        parameters = story.genesis.parameters
        chosen = pool.fair(2 * parameters.block_tx_max)
        block = sorted(chosen, key=lambda each: not each.method.urgent)[: parameters.block_tx_max]
        story.order(*block)
        pool.remove(each.id for each in block)
        found += passed_over(pool.fair(200), block, story.time_ms, story.ledger, story.genesis)

    assert found == []
