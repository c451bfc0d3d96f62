import pytest

from node.contracts.entries import load_key, load_member
from node.contracts.membership import REKEY_PAUSE_MS
from storage.schema.calls import RegisterRecord, ReplaceKeys
from storage.schema.events import KeysReplaced, ValidatorsChanged
from tests.support.council import Council, card, organisation
from tests.support.small_ledger import Actor, of_member, service

NEW = Actor("west, anew")


def test_the_organisation_key_alone_appoints_other_keys_and_a_new_node_key_opens_an_epoch() -> None:
    council = Council()

    outcome = council.replace_keys("west", node_key=NEW.key)

    assert outcome.code == "ok"
    assert outcome.events == (
        KeysReplaced("west", organisation("west").key, NEW.key, None, None),
        ValidatorsChanged(1),
    )
    member = load_member(council.ledger.state, "west")
    assert member is not None
    assert (member.node_key, member.service_key) == (NEW.key, service("west").key)
    assert [v.node_key for v in council.validators.validators if v.name == "west"] == [NEW.key]
    assert council.names() == ["east", "north", "south", "west"]


def test_service_and_encryption_key_are_replaced_within_the_epoch() -> None:
    council = Council()

    outcome = council.replace_keys("west", service_key=NEW.key, encryption_key=NEW.sealing_key)

    assert outcome.events == (KeysReplaced("west", organisation("west").key, None, NEW.key, NEW.sealing_key),)
    assert council.validators.epoch == 0
    record = RegisterRecord(Actor("pia").key, "note", (), 2020, b"c" * 32, b"p")
    old = council.apply_code("record.register", record, [service("west")], "west")
    new = council.apply_code("record.register", record, [NEW], "west")
    assert (old, new) == ("signers.not_service_key", "record.not_permitted")


def test_a_replaced_key_is_retired_and_never_serves_again() -> None:
    council = Council()
    council.replace_keys("west", node_key=NEW.key)
    replaced_ms = council.time_ms
    old = of_member("west", "node").key

    entry = load_key(council.ledger.state, old)

    assert entry is not None
    assert (entry.kind, entry.member, entry.retired_ms) == ("node", "west", replaced_ms)
    assert council.propose(card("harbour", node_key=old)).code == "member.key_used"
    assert council.register(of_member("west", "node"), "north").code == "identity.key_in_use"
    council.wait(REKEY_PAUSE_MS // 1000)
    assert council.replace_keys("west", node_key=old).code == "member.key_used"


def test_keys_are_replaced_once_in_24_hours() -> None:
    council = Council()
    council.replace_keys("west", node_key=NEW.key)

    soon = council.replace_keys("west", service_key=Actor("other").key)
    council.wait(REKEY_PAUSE_MS // 1000 - 2)
    late = council.replace_keys("west", service_key=Actor("other").key)

    assert soon.code == "member.keys_too_soon"
    assert late.code == "ok"


@pytest.mark.parametrize(
    ("keys", "code", "field"),
    [
        ({}, "member.keys_none", ""),
        ({"node_key": b"\x01" + bytes(31)}, "member.key_unsound", "node_key"),
        ({"encryption_key": bytes(32)}, "member.key_unsound", "encryption_key"),
        ({"node_key": NEW.key, "service_key": NEW.key}, "member.key_used", "node_key"),
        ({"node_key": organisation("west").key}, "member.key_used", "node_key"),
        ({"service_key": service("north").key}, "member.key_used", "service_key"),
        ({"service_key": Actor("pia").key}, "member.key_used", "service_key"),
    ],
)
def test_keys_that_are_unsound_or_in_use_are_not_appointed(keys: dict[str, bytes], code: str, field: str) -> None:
    council = Council()

    outcome = council.replace_keys("west", **keys)

    assert outcome.code == code
    assert outcome.events[0].field == field


def test_no_other_key_appoints_keys() -> None:
    council = Council()
    arguments = ReplaceKeys(NEW.key, None, None)

    by_service = council.do("network.replace_keys", arguments, [service("west")], "west")
    by_another = council.apply_code("network.replace_keys", arguments, [organisation("north")], "west")

    assert by_service.code == "signers.not_organisation_key"
    assert by_another == "signers.not_organisation_key"


def test_two_members_that_replace_node_keys_in_one_block_open_one_epoch() -> None:
    council = Council()
    calls = [
        council.sign("network.replace_keys", ReplaceKeys(Actor(name).key, None, None), [organisation(name)], name)
        for name in ("west", "east")
    ]

    outcomes = council.order(*calls)

    assert [outcome.events[-1] for outcome in outcomes] == [ValidatorsChanged(1)] * 2
    assert council.validators.epoch == 1
    assert [v.node_key for v in council.validators.validators if v.name in ("east", "west")] == [
        Actor("east").key,
        Actor("west").key,
    ]
