from hypothesis import given, settings
from hypothesis import strategies as st

from node.contracts.entries import ConsentEntry
from node.contracts.policy import Decision, Request, decide, explain
from storage.schema.calls import Period, Provision
from storage.schema.codec import typed_id
from tests.support.policy_model import model_permits
from tests.support.provisions import (
    ACTIONS,
    CATEGORIES,
    MEMBERS,
    PRACTITIONERS,
    PURPOSES,
    RECORDS,
    TAGS,
    provision,
    provisions,
)

CONSENT, OTHER = b"\x11" * 32, b"\x22" * 32
NOW = 100


def consent(
    root: Provision, *, uses: int | None = None, is_exclusion: bool = False, ended_ms: int | None = None
) -> ConsentEntry:
    return ConsentEntry(b"p" * 32, is_exclusion, False, root, uses, 1, 1, ended_ms, None)


def ask(
    *,
    practitioner: bytes | None = PRACTITIONERS[0],
    role: str = "north/physician",
    action: str = "read",
    purpose: str = "TREAT",
    category: str = "laboratory",
    tags: tuple[bytes, ...] = (),
    year: int = 2020,
    time_s: int = NOW,
) -> Request:
    member = role.partition("/")[0]
    return Request(practitioner, member, role, action, purpose, RECORDS[0], category, tags, year, time_s)


def decide_one(root: Provision, request: Request) -> Decision:
    return decide([(CONSENT, consent(root))], request)


def test_without_any_consent_the_answer_is_deny() -> None:
    decision = decide([], ask())

    assert not decision.is_permitted
    assert decision.code == "consent.denied"


def test_a_consent_that_names_nobody_speaks_of_everyone() -> None:
    decision = decide_one(provision(purposes=("TREAT",)), ask())

    assert decision.is_permitted
    assert decision.consent == CONSENT


def test_a_role_is_one_within_a_member() -> None:
    root = provision(roles=("north/physician",))

    assert decide_one(root, ask(role="north/physician")).is_permitted
    assert not decide_one(root, ask(role="south/physician")).is_permitted
    assert not decide_one(root, ask(role="north/nurse")).is_permitted


def test_a_period_holds_on_both_of_its_ends_and_not_beyond() -> None:
    root = provision(period=Period(90, 110))

    permitted = [time_s for time_s in range(80, 120) if decide_one(root, ask(time_s=time_s)).is_permitted]

    assert permitted == list(range(90, 111))


def test_the_deepest_matching_provision_decides() -> None:
    innermost = provision("permit", tags=(TAGS[0],))
    exception = provision("deny", categories=("note",), provisions=(innermost,))
    root = provision(purposes=("TREAT",), provisions=(exception,))

    assert decide_one(root, ask(category="laboratory")).path == ()
    assert decide_one(root, ask(category="note")) == Decision(False, "narrowed", CONSENT, (1,))
    assert decide_one(root, ask(category="note", tags=TAGS)) == Decision(True, "granted", CONSENT, (1, 1))


def test_what_lies_below_a_provision_that_does_not_match_is_not_looked_at() -> None:
    below = provision("permit", categories=("laboratory",))
    root = provision("deny", provisions=(provision("deny", purposes=("HRESCH",), provisions=(below,)),))

    assert not decide_one(root, ask()).is_permitted


def test_at_equal_depth_deny_wins_whatever_the_order() -> None:
    permit, deny = provision("permit", categories=("note",)), provision("deny", tags=(TAGS[0],))
    asked = ask(category="note", tags=(TAGS[0],))

    assert decide_one(provision(provisions=(permit, deny)), asked).path == (2,)
    assert decide_one(provision(provisions=(deny, permit)), asked).path == (1,)
    assert not decide_one(provision(provisions=(permit, deny)), asked).is_permitted


def test_a_deny_inside_a_grant_narrows_that_grant_only() -> None:
    narrow = consent(provision(provisions=(provision("deny", categories=("note",)),)))
    wide = consent(provision(members=("north",)))

    decision = decide([(CONSENT, narrow), (OTHER, wide)], ask(category="note"))

    assert decision.is_permitted
    assert decision.consent == OTHER


def test_an_exclusion_beats_every_grant() -> None:
    grants = [(bytes([number]) * 32, consent(provision())) for number in range(5)]
    exclusion = consent(provision("deny", practitioners=PRACTITIONERS), is_exclusion=True)

    decision = decide([*grants, (OTHER, exclusion)], ask())

    assert decision == Decision(False, "excluded", OTHER, ())


def test_a_permit_inside_an_exclusion_grants_nothing_but_lifts_the_exclusion() -> None:
    lifted = provision("deny", provisions=(provision("permit", purposes=("TREAT",)),))
    exclusion = (OTHER, consent(lifted, is_exclusion=True))

    assert decide([exclusion], ask()).reason == "uncovered"
    assert decide([exclusion, (CONSENT, consent(provision()))], ask()).is_permitted
    assert not decide([exclusion, (CONSENT, consent(provision()))], ask(purpose="HRESCH")).is_permitted


def test_a_consent_that_was_ended_neither_permits_nor_excludes() -> None:
    ended_grant = (CONSENT, consent(provision(), ended_ms=5))
    ended_exclusion = (CONSENT, consent(provision("deny"), is_exclusion=True, ended_ms=5))

    assert not decide([ended_grant], ask()).is_permitted
    assert decide([ended_exclusion, (OTHER, consent(provision()))], ask()).is_permitted


def test_of_a_record_of_unknown_year_a_permit_matches_and_a_denial_does_not() -> None:
    years = Period(2019, 2020)
    permit = provision(years=years)
    narrowed = provision(provisions=(provision("deny", years=years),))

    assert decide_one(permit, ask(year=0)).is_permitted
    assert decide_one(narrowed, ask(year=0)).is_permitted
    assert not decide_one(permit, ask(year=2021)).is_permitted
    assert not decide_one(narrowed, ask(year=2020)).is_permitted


def test_a_grant_without_limit_of_uses_answers_before_a_limited_one() -> None:
    limited, unlimited = consent(provision(), uses=3), consent(provision())

    decision = decide([(CONSENT, limited), (OTHER, unlimited)], ask())

    assert decision.consent == OTHER


def test_a_grant_whose_uses_are_spent_does_not_permit() -> None:
    limited = consent(provision(), uses=3)

    decision = decide([(CONSENT, limited)], ask(), spent=(CONSENT,))

    assert decision == Decision(False, "spent", CONSENT, ())


def test_a_permit_ends_with_the_earliest_end_on_the_way_to_its_provision() -> None:
    shorter = provision(period=Period(None, 130), categories=("note",))
    longer = provision(period=Period(None, 170), tags=(TAGS[0],))
    root = provision(period=Period(None, 150), provisions=(shorter, longer))

    assert decide_one(root, ask(category="note")).end_s == 130
    assert decide_one(root, ask(category="laboratory")).end_s == 150
    assert decide_one(root, ask(tags=(TAGS[0],))).end_s == 150
    assert decide_one(provision(), ask()).end_s is None


def test_the_explanation_names_consent_provision_and_what_it_speaks_of() -> None:
    root = provision(purposes=("TREAT",), provisions=(provision("deny", categories=("note",)),))
    consents = [(CONSENT, consent(root))]
    asked = ask(category="note")

    words = explain(decide(consents, asked), consents, asked)

    assert words.startswith(f"{typed_id('c', CONSENT)}, provision 1, leaves it out")
    assert words.endswith("deny; category note")


def test_an_exclusion_is_explained_by_its_own_kind_of_id() -> None:
    consents = [(OTHER, consent(provision("deny", purposes=("TREAT",)), is_exclusion=True))]

    words = explain(decide(consents, ask()), consents, ask())

    assert words.startswith(f"{typed_id('x', OTHER)}, the consent itself, shuts it out")


def test_where_nothing_covers_it_the_explanation_says_what_each_consent_lacks() -> None:
    consents = [
        (CONSENT, consent(provision(purposes=("HRESCH",)))),
        (OTHER, consent(provision(period=Period(None, NOW - 1)))),
    ]

    words = explain(decide(consents, ask()), consents, ask())

    assert f"{typed_id('c', CONSENT)} is for other purposes" in words
    assert f"{typed_id('c', OTHER)} is not in force at this time" in words


requests = st.builds(
    lambda practitioner, role, action, purpose, category, tags, year, time_s: ask(
        practitioner=practitioner,
        role=role,
        action=action,
        purpose=purpose,
        category=category,
        tags=tuple(tags),
        year=year,
        time_s=time_s,
    ),
    st.sampled_from((*PRACTITIONERS, None)),
    st.sampled_from([f"{member}/{role}" for member in MEMBERS for role in ("nurse", "physician")]),
    st.sampled_from(ACTIONS),
    st.sampled_from(PURPOSES),
    st.sampled_from(CATEGORIES),
    st.lists(st.sampled_from(TAGS), max_size=2),
    st.sampled_from((0, 2017, 2019, 2020, 2023)),
    st.integers(85, 115),
)
entries = st.builds(
    consent,
    provisions(),
    uses=st.sampled_from((None, None, 1)),
    is_exclusion=st.sampled_from((False, False, False, True)),
    ended_ms=st.sampled_from((None, None, None, 7)),
)


@settings(max_examples=250)
@given(st.lists(entries, max_size=4), requests, st.integers(0, 15))
def test_the_policy_decides_as_the_plain_model_does(
    consents: list[ConsentEntry], request: Request, spent_bits: int
) -> None:
    named = [(bytes([number]) * 32, entry) for number, entry in enumerate(consents)]
    spent = tuple(name for number, (name, entry) in enumerate(named) if entry.uses and spent_bits >> number & 1)

    decision = decide(named, request, spent)

    assert decision.is_permitted is model_permits(named, request, spent)


@settings(max_examples=50)
@given(st.lists(entries, max_size=4), requests)
def test_every_decision_can_be_explained(consents: list[ConsentEntry], request: Request) -> None:
    named = [(bytes([number]) * 32, entry) for number, entry in enumerate(consents)]

    decision = decide(named, request)

    words = explain(decision, named, request)
    assert decision.consent is None or typed_id("x", decision.consent)[2:] in words
    assert len(words) > 10


@settings(max_examples=50)
@given(provisions(), requests, provisions())
def test_an_exclusion_never_makes_a_request_permitted(root: Provision, request: Request, shut: Provision) -> None:
    before = decide([(CONSENT, consent(root))], request)

    after = decide([(CONSENT, consent(root)), (OTHER, consent(shut, is_exclusion=True))], request)

    assert before.is_permitted or not after.is_permitted
