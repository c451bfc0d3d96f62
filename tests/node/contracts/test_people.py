import pytest

from node.contracts.contract import ContractError
from node.contracts.entries import Patient, Practitioner, load_person
from storage.schema.block import Outcome
from storage.schema.calls import EnrolPractitioner, Grant, RegisterPatient, RevokePractitioner
from storage.schema.events import PatientRegistered, PractitionerEnrolled, PractitionerRevoked, Refused
from storage.schema.transaction import decode_transaction, encode_body, encode_envelope, sign_body
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, of_member, service
from tests.support.story import DAY_S, Story, World

PIA, BEN = Actor("pia"), Actor("ben")
SMALL_ORDER_SEALING_KEYS = (bytes(32), b"\x01" + bytes(31), (2**255 - 19 - 1).to_bytes(32, "little"))


def enrol(world: World, *, role: str = "physician", start_s: int = 0, days: int = 30, member: str = "south") -> Outcome:
    arguments = EnrolPractitioner(BEN.sealing_key, role, start_s, world.time_s + days * DAY_S)
    return world.do("identity.enrol_practitioner", arguments, [BEN, service(member)], member)


def revoke(world: World, member: str = "south", practitioner: Actor = BEN) -> Outcome:
    return world.do("identity.revoke_practitioner", RevokePractitioner(practitioner.key), [service(member)], member)


def test_a_patient_is_registered_by_their_own_key_and_the_sponsors() -> None:
    world = World()

    outcome = world.do("identity.register_patient", RegisterPatient(PIA.sealing_key), [PIA, service("north")])

    assert outcome.code == "ok"
    assert outcome.events == (PatientRegistered(PIA.key, "north"),)
    assert load_person(world.ledger.state, PIA.key) == Patient("north", PIA.key, PIA.sealing_key, None, None)


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        pytest.param([service("north")], "signers.count", id="the sponsor alone"),
        pytest.param([service("north"), PIA], "signers.not_service_key", id="in the other order"),
        pytest.param([PIA, service("north"), BEN], "signers.count", id="one too many"),
        pytest.param([PIA, of_member("north", "organisation")], "signers.not_service_key", id="the cold key"),
    ],
)
def test_a_patient_is_not_registered_with_other_signers(signers: list[Actor], code: str) -> None:
    world = World()

    outcome = world.do("identity.register_patient", RegisterPatient(PIA.sealing_key), signers)

    assert outcome.code == code
    assert outcome.events[0].field == "signers"


def test_a_second_registration_of_a_key_is_refused_at_every_member() -> None:
    story = Story()

    again = story.register(story.pia, "north")
    elsewhere = story.register(story.pia, "west")
    as_practitioner = story.enrol(story.pia)

    assert [again.code, elsewhere.code, as_practitioner.code] == ["identity.already_registered"] * 3


@pytest.mark.parametrize("sealing_key", SMALL_ORDER_SEALING_KEYS)
def test_a_sealing_key_of_small_order_is_refused(sealing_key: bytes) -> None:
    world = World()

    outcome = world.do("identity.register_patient", RegisterPatient(sealing_key), [PIA, service("north")])

    assert outcome.code == "identity.sealing_key_unsound"
    assert outcome.events == (Refused("sealing_key", "no sound X25519 key"),)


def test_a_signing_key_of_small_order_is_refused() -> None:
    # Such a signature would never pass admission; the rule is asked directly.
    world = World()
    identity = b"\x01" + bytes(31)
    keys = [identity, service("north").key]
    body = encode_body(
        world.genesis.chain_id,
        bytes(16),
        world.time_s + 60,
        "north",
        keys,
        "identity.register_patient",
        RegisterPatient(PIA.sealing_key),
    )
    transaction = decode_transaction(encode_envelope(body, [bytes(64), sign_body(body, service("north").seed)]))

    assert world.order(transaction)[0].code == "identity.signing_key_unsound"


def test_a_members_own_key_is_nobodys_signing_key() -> None:
    world = World()

    outcome = world.do(
        "identity.register_patient", RegisterPatient(PIA.sealing_key), [of_member("west", "node"), service("north")]
    )

    assert outcome.code == "identity.key_in_use"


def test_a_practitioner_is_enrolled_in_a_role_for_a_time() -> None:
    world = World()

    outcome = enrol(world, days=3)

    person = load_person(world.ledger.state, BEN.key)
    assert isinstance(person, Practitioner)
    assert (person.member, person.role, person.valid_from_s, person.revoked_ms) == ("south", "physician", 0, None)
    event = PractitionerEnrolled(BEN.key, "south", "physician", 0, person.valid_until_s)
    assert outcome.events == (event,)


@pytest.mark.parametrize(
    ("role", "start_s", "days", "code", "field"),
    [
        pytest.param("wizard", 0, 1, "role.unknown", "role", id="unknown role"),
        pytest.param("nurse", 2**40, 1, "identity.period_reversed", "valid_until_s", id="ends before it starts"),
        pytest.param("nurse", 0, -1, "identity.period_over", "valid_until_s", id="already over"),
    ],
)
def test_an_enrolment_that_cannot_hold_is_refused(role: str, start_s: int, days: int, code: str, field: str) -> None:
    outcome = enrol(World(), role=role, start_s=start_s, days=days)

    assert outcome.code == code
    assert outcome.events[0].field == field


def test_the_same_member_may_enrol_a_practitioner_anew_and_no_other_may() -> None:
    world = World()
    enrol(world, days=1)

    elsewhere = enrol(world, member="west")
    renewed = enrol(world, role="nurse", days=90)

    person = load_person(world.ledger.state, BEN.key)
    assert elsewhere.code == "identity.already_registered"
    assert renewed.code == "ok"
    assert isinstance(person, Practitioner)
    assert person.role == "nurse"


def test_only_the_member_that_enrolled_revokes() -> None:
    world = World()
    enrol(world)

    by_another = revoke(world, "west")
    by_a_person = world.do("identity.revoke_practitioner", RevokePractitioner(BEN.key), [BEN], "south")
    by_its_own = revoke(world, "south")

    assert by_another.code == "identity.other_member"
    assert by_a_person.code == "signers.not_service_key"
    assert by_its_own.events == (PractitionerRevoked(BEN.key, "south"),)


def test_revocation_is_final_for_a_did() -> None:
    world = World()
    enrol(world)
    revoke(world)

    assert revoke(world).code == "identity.revoked"
    assert enrol(world).code == "identity.revoked"


def test_a_replaced_key_speaks_for_nobody() -> None:
    story = Story()
    grant = story.sign("consent.grant", Grant(provision(purposes=("TREAT",)), None), [story.pia])
    times = (story.time_s, story.time_s + DAY_S)
    enrolment = EnrolPractitioner(BEN.sealing_key, "nurse", *times)
    enrol_again = story.sign("identity.enrol_practitioner", enrolment, [BEN, service("south")], "south")
    story.replace_key(story.pia)
    story.replace_key(story.ben)

    for transaction in (grant, enrol_again):
        with pytest.raises(ContractError) as caught:
            story.apply(transaction)
        assert caught.value.code == "identity.key_replaced"


def test_nobody_but_a_practitioner_is_revoked() -> None:
    story = Story()

    assert revoke(story, "north", story.pia).code == "identity.not_practitioner"
    assert revoke(story, "north", Actor("nobody")).code == "identity.not_practitioner"
