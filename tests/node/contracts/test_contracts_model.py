from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.schema.calls import (
    EndExclusion,
    Exclude,
    Grant,
    Period,
    RequestAccess,
    Revoke,
    RevokePractitioner,
    ServeAccess,
    Value,
)
from storage.schema.genesis import Parameters
from storage.schema.transaction import derived_id
from tests.support.contract_model import Deed, Model
from tests.support.provisions import OPEN, provision
from tests.support.small_ledger import Actor, service
from tests.support.story import Story

PERMIT_S = 30
PEOPLE = ("ben", "eve")
whom = st.sampled_from((*PEOPLE, "south", "all"))
categories = st.sampled_from(("laboratory", "laboratory", "note"))
purposes = st.sampled_from(("TREAT", "TREAT", "TREAT", "HRESCH"))
counts = st.integers(0, 99)
grants = st.tuples(
    st.just("grant"),
    whom,
    st.sampled_from(("laboratory", "note", "any")),
    purposes,
    st.sampled_from((None, None, 1, 2)),
    st.sampled_from((None, None, None, -5, 10, 60)),
)
requests = st.tuples(st.just("request"), st.sampled_from(PEOPLE), categories, purposes)
services = st.tuples(st.just("serve"), counts)
others = st.one_of(
    st.tuples(st.just("exclude"), st.sampled_from(PEOPLE), st.sampled_from(("laboratory", "note", "any"))),
    st.tuples(st.just("end"), counts),
    st.tuples(st.just("end"), counts),
    st.tuples(st.just("wait"), st.sampled_from((5, 20, 40))),
    st.tuples(st.just("dismiss"), st.sampled_from(("eve", "eve", "ben"))),
)
acts = st.integers(0, 9).flatmap(
    lambda roll: grants if roll < 2 else requests if roll < 6 else services if roll < 8 else others
)


class Play:
    """Plays acts on the real rules and on the model, and compares code for code."""

    def __init__(self) -> None:
        self.story = Story(Parameters(permit_s=PERMIT_S))
        self.story.enrol(Actor("eve"), role="nurse")
        self.records = {"laboratory": self.story.record, "note": self.story.add_record("note")}
        self.model = Model(PERMIT_S)
        self.deeds: list[bytes] = []
        self.accesses: list[bytes] = []

    def act(self, name: str, *details: Any) -> None:
        getattr(self, name)(*details)

    def wait(self, seconds: int) -> None:
        self.story.wait(seconds)

    def grant(self, grantee: str, category: str, purpose: str, uses: int | None, lasts_s: int | None) -> None:
        end_s = None if lasts_s is None else self.story.time_s + lasts_s
        root = self.root("permit", grantee, category, purposes=(purpose,), period=Period(None, end_s))
        expected = self.model.grant(Deed(False, grantee, category, purpose, uses, end_s), self.now_s())
        self.deeds += self.made(self.do("consent.grant", Grant(root, uses), self.story.pia, expected), expected)

    def exclude(self, grantee: str, category: str) -> None:
        expected = self.model.grant(Deed(True, grantee, category, ""), self.now_s())
        arguments = Exclude(self.root("deny", grantee, category), False)
        self.deeds += self.made(self.do("consent.exclude", arguments, self.story.pia, expected), expected)

    def end(self, number: int) -> None:
        if self.deeds:
            number %= len(self.deeds)
            deed, excludes = self.deeds[number], self.model.deeds[number].excludes
            method = "consent.end_exclusion" if excludes else "consent.revoke"
            arguments = EndExclusion(deed) if excludes else Revoke(deed)
            self.do(method, arguments, self.story.pia, self.model.end(number))

    def dismiss(self, who: str) -> None:
        arguments = RevokePractitioner(Actor(who).key)
        self.do("identity.revoke_practitioner", arguments, service("south"), self.model.dismiss(who), "south")

    def request(self, who: str, category: str, purpose: str) -> None:
        expected = self.model.request(who, category, purpose, self.now_s())
        arguments = RequestAccess(self.records[category], purpose)
        asked = self.do("access.request", arguments, Actor(who), expected, "south")
        self.accesses += self.made(asked, expected)

    def serve(self, number: int) -> None:
        if self.accesses:
            number %= len(self.accesses)
            expected = self.model.serve(number, self.now_s())
            self.do("access.served", ServeAccess(self.accesses[number]), service("north"), expected)

    def root(self, effect: str, grantee: str, category: str, **criteria: Any) -> Any:
        actors: dict[str, Any] = {"practitioners": (Actor(grantee).key,)} if grantee in PEOPLE else {}
        actors |= {"members": ("south",)} if grantee == "south" else {}
        return provision(
            effect, categories=() if category == "any" else (category,), **({"period": OPEN} | actors | criteria)
        )

    def now_s(self) -> int:
        """The time of the block that the next call will stand in."""
        return (self.story.time_ms + 1000) // 1000

    def do(self, method: str, arguments: Value, signer: Actor, expected: str, payer: str = "north") -> bytes:
        transaction = self.story.sign(method, arguments, [signer], payer)
        self.story.time_ms += 1000
        before = dict(self.story.ledger.state.values)
        execution = self.story.ledger.append([transaction], self.story.time_ms)
        outcome = self.story.ledger.outcome(self.story.ledger.head.height, 0)
        assert outcome.code == expected
        if expected != "ok":
            after = self.story.ledger.state.values
            changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
            assert all(key.startswith((b"seen/", b"seen-lists/")) for key in changed)
            assert execution.refused_count == 1
        return transaction.id

    @staticmethod
    def made(tx_id: bytes, code: str) -> list[bytes]:
        return [derived_id(tx_id)] if code == "ok" else []


@settings(max_examples=120)
@given(st.lists(acts, min_size=4, max_size=25))
def test_every_act_has_the_outcome_that_the_plain_model_says_and_a_refused_one_writes_nothing(
    story: list[tuple[Any, ...]],
) -> None:
    play = Play()
    play.grant("south", "any", "TREAT", 3, None)

    for act in story:
        play.act(*act)
