"""Governance against a plain model: names, roles and votes in sets and dicts, and nothing of ours."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from node.contracts.entries import load_member, load_members
from node.contracts.governance import PROPOSAL_MS
from node.contracts.proposals import OPEN_PER_MEMBER_MAX, load_proposals
from storage.schema.calls import Change, Remove, SetRole
from storage.schema.transaction import derived_id
from tests.support.council import Council, card

FOUNDERS = ("east", "north", "south", "west")
APPLICANTS = ("abbey", "harbour", "lake")
NAMES = (*FOUNDERS, *APPLICANTS)


@dataclass
class Motion:
    kind: str
    name: str
    by: str
    until_s: int
    votes: dict[str, bool] = field(default_factory=dict)
    ending: str = ""


@dataclass
class Model:
    roles: dict[str, str] = field(default_factory=lambda: dict.fromkeys(FOUNDERS, "validator"))
    used: set[str] = field(default_factory=lambda: set(FOUNDERS))
    motions: list[Motion] = field(default_factory=list)
    epoch: int = 0

    def voters(self) -> set[str]:
        return {name for name, role in self.roles.items() if role == "validator"}

    def can(self, kind: str, name: str) -> str:
        if kind == "admit":
            return "member.name_used" if name in self.used else "ok"
        if name not in self.roles:
            return "member.removed" if name in self.used else "member.unknown"
        if kind == self.roles[name]:
            return "member.role_same"
        loses_one = self.roles[name] == "validator"
        return "network.too_few_validators" if loses_one and len(self.voters()) <= 4 else "ok"

    def voter(self, name: str) -> str:
        # Who is no member, or none any more, does not even reach the ledger.
        if name not in self.roles:
            return "stranger"
        return "ok" if name in self.voters() else "network.not_validator"

    def propose(self, kind: str, name: str, by: str, now_s: int) -> str:
        standing = [motion for motion in self.motions if not motion.ending and motion.until_s >= now_s]
        for code in (self.voter(by), self.can(kind, name)):
            if code != "ok":
                return code
        if any((motion.kind, motion.name) == (kind, name) for motion in standing):
            return "proposal.already_open"
        if sum(motion.by == by for motion in standing) >= OPEN_PER_MEMBER_MAX:
            return "proposal.too_many"
        self.motions.append(Motion(kind, name, by, now_s + PROPOSAL_MS // 1000, {by: True}))
        self.settle(now_s)
        return "ok"

    def vote(self, number: int, by: str, approve: bool, now_s: int) -> str:
        motion = self.motions[number]
        if self.voter(by) != "ok":
            return self.voter(by)
        if motion.ending or motion.until_s < now_s:
            return "proposal.closed"
        if by in motion.votes:
            return "proposal.already_voted"
        motion.votes[by] = approve
        self.settle(now_s)
        return "ok"

    def settle(self, now_s: int) -> None:
        before = self.voters()
        while True:
            endings = [(self.ending(motion, now_s), motion) for motion in self.motions if not motion.ending]
            ended = [pair for pair in endings if pair[0]]
            if not ended:
                break
            ending, motion = next((pair for pair in ended if pair[0] == "accepted"), ended[0])
            motion.ending = ending
            if ending == "accepted":
                self.carry_out(motion)
        self.epoch += before != self.voters()

    def ending(self, motion: Motion, now_s: int) -> str:
        if motion.until_s < now_s:
            return "expired"
        if self.can(motion.kind, motion.name) != "ok":
            return "overtaken"
        voters = self.voters()
        needed = (2 * len(voters) + 2) // 3
        if len([name for name in voters if motion.votes.get(name) is True]) >= needed:
            return "accepted"
        against = len([name for name in voters if motion.votes.get(name) is False])
        return "rejected" if len(voters) - against < needed else ""

    def carry_out(self, motion: Motion) -> None:
        if motion.kind == "admit":
            self.roles[motion.name] = "observer"
            self.used.add(motion.name)
        elif motion.kind == "remove":
            del self.roles[motion.name]
        else:
            self.roles[motion.name] = motion.kind


def change_of(kind: str, name: str) -> Change:
    if kind == "admit":
        return card(name)
    return Remove(name) if kind == "remove" else SetRole(name, "validator" if kind == "validator" else "observer")


class Play:
    """Plays acts on the real rules and on the model, one block each, and compares code for code, name for name."""

    def __init__(self) -> None:
        self.council = Council()
        self.model = Model()
        self.proposals: list[bytes] = []

    def wait(self, days: int) -> None:
        self.council.wait(days * 24 * 3600)

    def propose(self, kind: str, name: str, by: str) -> None:
        if self.model.voter(by) == "stranger":
            return
        expected = self.model.propose(kind, name, by, self.council.time_s + 1)
        outcome = self.council.propose(change_of(kind, name), by)
        assert outcome.code == expected
        if expected == "ok":
            self.proposals.append(derived_id(outcome.id))

    def vote(self, number: int, by: str, approve: bool) -> None:
        if not self.proposals or self.model.voter(by) == "stranger":
            return
        # The newest are voted on most: old ones have ended.
        number = max(0, len(self.proposals) - 1 - number)
        expected = self.model.vote(number, by, approve, self.council.time_s + 1)
        assert self.council.vote(self.proposals[number], by, approve=approve).code == expected

    def campaign(self, number: int, count: int, approve: bool = True) -> None:
        """So many vote alike, the last of the list of names."""
        for name in sorted(self.model.voters())[-count:]:
            self.vote(number, name, approve)

    def compare(self) -> None:
        state = self.council.ledger.state
        assert load_members(state) == tuple(sorted(self.model.roles))
        for name in self.model.used:
            member = load_member(state, name)
            assert member is not None
            assert member.roles == ((self.model.roles[name],) if name in self.model.roles else ())
        assert self.council.names() == sorted(self.model.voters())
        assert self.council.validators.epoch == self.model.epoch
        endings = [self.council.entry(proposal).ending or "" for proposal in self.proposals]
        assert endings == [motion.ending for motion in self.model.motions]
        still_open = tuple(name for name, ending in zip(self.proposals, endings, strict=True) if not ending)
        assert load_proposals(state).open == still_open
        assert len(self.council.names()) >= 4


kinds = st.sampled_from(("admit", "validator", "validator", "observer", "remove", "remove"))
anyone = st.sampled_from(NAMES)
founders = st.sampled_from(FOUNDERS)
few = st.integers(0, 2)
proposals = st.tuples(st.just("propose"), kinds, anyone, founders)
votes = st.tuples(st.just("vote"), few, anyone, st.sampled_from((True, False)))
campaigns = st.tuples(st.just("campaign"), few, st.integers(2, 7), st.sampled_from((True, True, False)))
others = st.one_of(
    st.tuples(st.just("propose"), kinds, anyone, anyone), st.tuples(st.just("wait"), st.sampled_from((1, 1, 15)))
)
acts = st.integers(0, 9).flatmap(
    lambda roll: proposals if roll < 4 else campaigns if roll < 7 else votes if roll < 9 else others
)


@settings(max_examples=40)
@given(st.lists(acts, min_size=15, max_size=40))
def test_members_and_decisions_are_those_of_the_plain_model(story: list[tuple[Any, ...]]) -> None:
    play = Play()
    for kind in ("admit", "validator"):
        for applicant in APPLICANTS[:2]:
            play.propose(kind, applicant, "north")
            play.campaign(0, 7)

    for name, *details in story:
        getattr(play, name)(*details)
        play.compare()
