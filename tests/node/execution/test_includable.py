from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from node.execution.includable import BlockInvalidError, check_block, select
from storage.schema.block import Header
from storage.schema.calls import EnrolPractitioner, Grant, RegisterPatient, RequestAccess, Revoke, RevokePractitioner
from storage.schema.genesis import Parameters
from storage.schema.transaction import (
    LIFETIME_S_MAX,
    Transaction,
    decode_transaction,
    derived_id,
    encode_envelope,
    signing_preimage,
)
from tests.support.chain import make_header
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import Story
from tests.support.twin import second_signature


def ask(story: Story, **options: Any) -> Transaction:
    return story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.ben], "south", **options)


def revoke_ben(story: Story) -> Transaction:
    arguments = RevokePractitioner(story.ben.key)
    return story.sign("identity.revoke_practitioner", arguments, [service("south")], "south")


def verdict(story: Story, transactions: Sequence[Transaction], **changes: Any) -> str:
    """Judge a block of these transactions, a second after the head, with changes to its header."""
    header = make_header(story.genesis, story.ledger, transactions, story.time_ms + 1000)
    try:
        check_block(msgspec.structs.replace(header, **changes), transactions, story.ledger, story.genesis)
    except BlockInvalidError as error:
        return error.reason
    return "valid"


def test_a_block_that_keeps_every_rule_is_valid() -> None:
    story = Story()

    assert verdict(story, [revoke_ben(story), ask(story), ask(story)]) == "valid"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 1),
        ("chain_id", bytes(32)),
        ("epoch", 1),
        ("height", 9),
        ("parent", bytes(32)),
        ("parent_result", bytes(32)),
        ("validators_hash", bytes(32)),
        ("history_root", bytes(32)),
        ("time_ms", 0),
        ("proposer", "nobody"),
    ],
)
def test_a_header_that_does_not_follow_from_its_parent_is_invalid(field: str, value: object) -> None:
    story = Story()

    assert verdict(story, [ask(story)], **{field: value}).startswith(f"{field} of the header")


@pytest.mark.parametrize(
    ("field", "change", "reason"),
    [
        ("tx_root", lambda _: bytes(32), "other transactions"),
        ("tx_count", lambda header: header.tx_count + 1, "other transactions"),
        ("tx_bytes", lambda header: header.tx_bytes + 1, "another size"),
    ],
)
def test_a_header_must_state_what_the_block_holds(field: str, change: Callable[[Header], Any], reason: str) -> None:
    story = Story()
    transactions = [ask(story)]
    header = make_header(story.genesis, story.ledger, transactions, story.time_ms + 1000)

    assert reason in verdict(story, transactions, **{field: change(header)})


def test_the_time_of_a_block_is_after_its_parents() -> None:
    story = Story()
    parent_ms = story.ledger.head.header.time_ms

    assert "not after" in verdict(story, [ask(story)], time_ms=parent_ms)
    assert verdict(story, [ask(story)], time_ms=parent_ms + 1) == "valid"


def test_an_empty_block_waits_until_its_parent_is_old() -> None:
    story = Story()
    old_ms = story.ledger.head.header.time_ms + story.genesis.parameters.idle_block_s * 1000

    assert "empty" in verdict(story, [], time_ms=old_ms - 1)
    assert verdict(story, [], time_ms=old_ms) == "valid"


def test_urgent_calls_stand_before_all_others() -> None:
    story = Story()

    assert "urgent" in verdict(story, [ask(story), revoke_ben(story)])


def test_a_transaction_stands_in_one_block_only_and_once() -> None:
    story = Story()
    asked = ask(story)
    story.order(asked)

    assert "tx.replayed" in verdict(story, [asked])
    again = ask(story)
    assert "tx.replayed" in verdict(story, [again, again])


def test_a_second_good_signature_makes_no_second_transaction() -> None:
    story = Story()
    asked = ask(story)
    signature = second_signature(story.ben.seed, signing_preimage(asked.body_bytes))
    twin = decode_transaction(encode_envelope(asked.body_bytes, [signature]))
    twin.verify_signatures()

    assert twin.leaf != asked.leaf
    assert "tx.replayed" in verdict(story, [asked, twin])


def test_the_window_is_judged_by_the_blocks_time_to_the_second() -> None:
    story = Story()
    block_s = (story.time_ms + 1000) // 1000

    assert verdict(story, [ask(story, not_after_s=block_s)]) == "valid"
    assert "tx.expired" in verdict(story, [ask(story, not_after_s=block_s - 1)])
    assert verdict(story, [ask(story, not_after_s=block_s + LIFETIME_S_MAX)]) == "valid"
    assert "tx.too_far_future" in verdict(story, [ask(story, not_after_s=block_s + LIFETIME_S_MAX + 1)])


def test_the_payer_is_bound_in_the_parents_state_and_not_by_the_same_block() -> None:
    story = Story()
    new = Actor("new")
    register = story.sign("identity.register_patient", RegisterPatient(new.sealing_key), [new, service("north")])
    grant = story.sign("consent.grant", Grant(provision(purposes=("TREAT",)), None), [new])

    assert "tx.payer_unbound" in verdict(story, [register, grant])


def test_each_payer_and_the_block_have_their_limits() -> None:
    story = Story(Parameters(payer_tx_per_block_max=2, block_tx_max=3))
    by_south = [ask(story) for _ in range(3)]
    by_north = [story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.pia]) for _ in range(2)]

    assert "block.payer_full" in verdict(story, by_south)
    assert verdict(story, [*by_south[:2], by_north[0]]) == "valid"
    assert "block.count_full" in verdict(story, [*by_south[:2], *by_north])


def test_a_block_is_no_larger_than_its_limit() -> None:
    limit_bytes = 16_000
    story = Story(Parameters(block_bytes_max=limit_bytes))
    size_bytes = len(ask(story).envelope)
    fitting = limit_bytes // size_bytes

    assert verdict(story, [ask(story) for _ in range(fitting)]) == "valid"
    assert "block.bytes_full" in verdict(story, [ask(story) for _ in range(fitting + 1)])


def test_what_is_selected_is_always_a_valid_block() -> None:
    story = Story(Parameters(payer_tx_per_block_max=3, block_tx_max=4))
    done = ask(story)
    story.order(done)
    by_pia = story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.pia])
    waiting = [done, ask(story), by_pia, ask(story, not_after_s=story.time_s - 5), ask(story), revoke_ben(story)]
    waiting += [ask(story), ask(story), story.sign("access.request", RequestAccess(story.record, "X"), [Actor("eve")])]

    selection = select(waiting, story.ledger, story.genesis, story.time_ms + 1000)

    assert verdict(story, selection.included) == "valid"
    assert [transaction.method.name for transaction in selection.included] == [
        "identity.revoke_practitioner",
        "access.request",
        "access.request",
        "access.request",
    ]
    assert {code for _, code in selection.dropped} <= {"tx.replayed", "tx.expired", "tx.payer_unbound"}
    assert (waiting[0], "tx.replayed") in selection.dropped
    everything = [*selection.included, *selection.left, *(transaction for transaction, _ in selection.dropped)]
    assert sorted(transaction.id for transaction in everything) == sorted(transaction.id for transaction in waiting)


def selected(story: Story, *waiting: Transaction) -> tuple[list[Transaction], list[Transaction]]:
    selection = select(waiting, story.ledger, story.genesis, story.time_ms + 1000)
    assert selection.dropped == ()
    return list(selection.included), list(selection.left)


def test_a_revocation_of_a_consent_that_waits_as_well_is_left_for_the_next_block() -> None:
    story = Story()
    grant = story.sign("consent.grant", Grant(provision(purposes=("TREAT",)), None), [story.pia])
    revoke = story.sign("consent.revoke", Revoke(derived_id(grant.id)), [story.pia])

    assert selected(story, revoke, grant) == ([grant], [revoke])


def test_the_revocation_of_a_practitioner_whose_enrolment_waits_is_left() -> None:
    story = Story()
    eve = Actor("eve")
    times = (story.time_s, story.time_s + 3600)
    enrolment = EnrolPractitioner(eve.sealing_key, "nurse", *times)
    enrol = story.sign("identity.enrol_practitioner", enrolment, [eve, service("south")], "south")
    revoke = story.sign("identity.revoke_practitioner", RevokePractitioner(eve.key), [service("south")], "south")

    assert selected(story, revoke, enrol) == ([enrol], [revoke])


def test_a_waiting_enrolment_holds_back_no_revocation_of_somebody_enrolled() -> None:
    # Else another member could keep a dismissed practitioner reading, with enrolments that will be refused.
    story = Story()
    times = (story.time_s, story.time_s + 3600)
    enrolment = EnrolPractitioner(story.ben.sealing_key, "nurse", *times)
    enrol = story.sign("identity.enrol_practitioner", enrolment, [story.ben, service("west")], "west")
    revoke = revoke_ben(story)

    assert selected(story, enrol, revoke) == ([revoke, enrol], [])


def test_a_call_of_somebody_whose_registration_waits_is_left_and_not_dropped() -> None:
    story = Story()
    new = Actor("new")
    register = story.sign("identity.register_patient", RegisterPatient(new.sealing_key), [new, service("north")])
    grant = story.sign("consent.grant", Grant(provision(purposes=("TREAT",)), None), [new])

    assert selected(story, grant, register) == ([register], [grant])


def test_what_is_ahead_of_the_blocks_clock_is_left() -> None:
    story = Story()
    early = ask(story, not_after_s=story.time_s + LIFETIME_S_MAX + 10)

    assert selected(story, early) == ([], [early])
