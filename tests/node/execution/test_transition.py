from hashlib import sha256
from typing import Any

import pytest

from node.contracts import registry
from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import load_seen_count
from node.contracts.overlay import Overlay
from node.execution.transition import SEEN_EXPIRED_PER_BLOCK, execute_block
from storage.merkle import log
from storage.schema.block import OUTCOME
from storage.schema.calls import Grant, RequestAccess, Revoke, ServeAccess
from storage.schema.events import AccessDenied
from storage.schema.seen import seen_key
from storage.schema.transaction import Transaction, derived_id
from tests.support.chain import make_header
from tests.support.provisions import provision
from tests.support.small_ledger import service
from tests.support.story import Story


def ask(story: Story, **options: Any) -> Transaction:
    return story.sign("access.request", RequestAccess(story.record, "TREAT"), [story.ben], "south", **options)


def to_ben(story: Story) -> Grant:
    return Grant(provision(practitioners=(story.ben.key,), purposes=("TREAT",)), None)


def test_calls_take_effect_in_the_blocks_order() -> None:
    story = Story()
    first = story.grant(to_ben(story).provision)
    revoke = story.sign("consent.revoke", Revoke(first), [story.pia])
    grant = story.sign("consent.grant", to_ben(story), [story.pia])

    outcomes = story.order(revoke, ask(story), grant, ask(story))

    assert [outcome.code for outcome in outcomes] == ["ok", "consent.denied", "ok", "ok"]


def test_an_outcome_stands_for_each_transaction_and_the_result_binds_them() -> None:
    story = Story()
    transactions = [ask(story), story.sign("consent.grant", to_ben(story), [story.pia])]

    execution = story.ledger.append(transactions, story.time_ms + 1)

    outcomes = [OUTCOME.decode(outcome) for outcome in execution.outcomes]
    assert [outcome.id for outcome in outcomes] == [transaction.id for transaction in transactions]
    assert [outcome.source for outcome in outcomes] == ["transaction", "transaction"]
    assert execution.result.outcome_count == 2
    assert execution.result.outcomes_root == log.root([log.leaf_hash(outcome) for outcome in execution.outcomes])
    assert execution.result.next_validators_hash == story.genesis.validators.digest()
    assert execution.result.state_root == execution.prepared.root
    assert execution.refused_count == 1


def test_a_refused_call_writes_nothing_but_that_its_id_was_seen() -> None:
    story = Story()

    execution = story.ledger.append([ask(story)], story.time_ms + 1)

    assert [key.partition(b"/")[0] for key in execution.writes] == [b"seen-lists", b"seen"]


def test_executing_changes_nothing_by_itself() -> None:
    story = Story()
    before = dict(story.ledger.state.values)
    transactions = [story.sign("consent.grant", to_ben(story), [story.pia])]
    header = make_header(story.genesis, story.ledger, transactions, story.time_ms + 1)

    first = execute_block(header, transactions, story.ledger, story.genesis)
    second = execute_block(header, transactions, story.ledger, story.genesis)

    assert story.ledger.state.values == before
    assert first == second


def test_writes_come_sorted_by_key() -> None:
    story = Story()
    grants = [story.sign("consent.grant", to_ben(story), [story.pia]) for _ in range(5)]

    execution = story.ledger.append(grants, story.time_ms + 1)

    assert list(execution.writes) == sorted(execution.writes)


def test_the_trail_names_everybody_and_everything_that_an_outcome_concerns() -> None:
    story = Story()
    consent = story.grant(to_ben(story).provision)
    asked = ask(story)

    permitted = story.ledger.append([asked], story.time_ms + 1)
    access = derived_id(asked.id)
    story.time_ms += 2
    served = story.serve(access)

    subjects = {subject for subject, index in permitted.trail if index == 0}
    assert subjects == {access, story.record, story.pia.key, story.ben.key, consent}
    assert served.code == "ok"
    assert len(list(story.ledger.trail(access))) == 2


def test_a_refusal_that_concerns_nobody_else_concerns_its_first_signer() -> None:
    story = Story()
    unknown = story.sign("consent.revoke", Revoke(b"?" * 32), [story.pia])

    execution = story.ledger.append([unknown], story.time_ms + 1)

    assert execution.trail == ((story.pia.key, 0),)


def test_seen_ids_stand_as_one_digest_for_each_minute_of_expiry() -> None:
    story = Story()
    minute = story.time_s // 60 + 5
    early = [ask(story, not_after_s=minute * 60 + second) for second in (0, 59)]
    late = ask(story, not_after_s=minute * 60 + 60)

    execution = story.ledger.append([*early, late], story.time_ms + 1)

    height = story.ledger.head.height
    ids = tuple(sorted(transaction.id for transaction in early))
    assert execution.seen == {minute: ids, minute + 1: (late.id,)}
    assert execution.writes[seen_key(minute, height)] == sha256(b"".join(ids)).digest()
    assert execution.writes[seen_key(minute + 1, height)] == sha256(late.id).digest()


def test_seen_ids_are_forgotten_when_their_minute_is_over_and_not_before() -> None:
    story = Story()
    story.wait(3600 * 2)
    story.order(ask(story))
    story.wait(-(story.time_s % 60) + 60)
    asked = ask(story, not_after_s=story.time_s + 59)
    story.order(asked)
    kept = seen_key(asked.body.not_after_s // 60, story.ledger.head.height)

    story.wait(asked.body.not_after_s - story.time_s - 1)
    story.order(ask(story))
    last_second = story.ledger.state.get(kept)
    story.order(ask(story))
    a_second_later = story.ledger.state.get(kept)

    assert last_second is not None
    assert a_second_later is None


def test_it_stands_in_state_how_many_lists_of_seen_ids_there_are() -> None:
    story = Story()
    before = load_seen_count(story.ledger.state)

    story.order(ask(story, not_after_s=story.time_s + 60), ask(story, not_after_s=story.time_s + 180))
    with_two_more = load_seen_count(story.ledger.state)
    story.wait(3600 * 24)
    story.order(ask(story))

    assert with_two_more == before + 2
    assert load_seen_count(story.ledger.state) == len(story.ledger.seen)


def test_a_bounded_number_of_lists_is_forgotten_in_a_block() -> None:
    story = Story()
    many = [ask(story, not_after_s=story.time_s + 60 * minute) for minute in range(1, 61)]
    story.order(*many)
    story.wait(2 * 3600)

    execution = story.ledger.append([ask(story)], story.time_ms)

    assert len(execution.expired) == SEEN_EXPIRED_PER_BLOCK + 1
    assert list(execution.expired) == sorted(execution.expired)


def test_more_lists_are_forgotten_than_a_block_adds() -> None:
    # Else somebody who spreads the ends of many transactions could make the lists grow for ever.
    story = Story()
    for _ in range(5):
        story.order(*[ask(story, not_after_s=story.time_s + 60 * minute) for minute in range(1, 41)])
    story.wait(3600)
    before = len(story.ledger.seen)

    story.order(*[ask(story, not_after_s=story.time_s + 60 * minute) for minute in range(1, 41)])

    assert len(story.ledger.seen) == before - SEEN_EXPIRED_PER_BLOCK


def test_a_bug_of_ours_stops_the_node_and_makes_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()

    def broken(call: Call, state: StateReader) -> Changes:
        raise ZeroDivisionError

    monkeypatch.setitem(registry.RULES, "access.request", broken)

    with pytest.raises(ZeroDivisionError):
        story.order(ask(story))


def test_a_refusal_carries_its_own_events_or_else_field_and_words() -> None:
    event = AccessDenied(b"r" * 32, b"p" * 32, b"q" * 32, "north", "TREAT")

    with_events = ContractError("consent.denied", events=(event,))
    without = ContractError("record.not_found", "record", "x" * 300)

    assert with_events.events == (event,)
    assert without.events[0].field == "record"
    assert len(without.events[0].detail) == 256


class CountingState:
    def __init__(self) -> None:
        self.reads: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        self.reads.append(key)
        return b"below" if key == b"a" else None


def test_an_overlay_reads_a_key_once_and_shows_what_was_written() -> None:
    state = CountingState()
    overlay = Overlay(state)

    before = [overlay.get(b"a"), overlay.get(b"a"), overlay.get(b"b"), overlay.get(b"b")]
    overlay.apply({b"b": b"above", b"a": None})

    assert before == [b"below", b"below", None, None]
    assert [overlay.get(b"a"), overlay.get(b"b")] == [None, b"above"]
    assert list(overlay.writes().items()) == [(b"a", None), (b"b", b"above")]
    assert state.reads == [b"a", b"b"]


def test_a_custodian_that_serves_in_the_block_of_the_request_is_decided_after_it() -> None:
    story = Story()
    story.grant(to_ben(story).provision)
    asked = ask(story)

    served = story.sign("access.served", ServeAccess(derived_id(asked.id)), [service("north")])

    assert [outcome.code for outcome in story.order(asked, served)] == ["ok", "ok"]
