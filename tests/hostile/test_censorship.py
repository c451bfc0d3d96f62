"""A primary that orders everything but one call: the others see it by its blocks, and go on without it."""

import time
from collections.abc import Iterator

import pytest

from storage.schema.calls import Revoke
from storage.schema.codec import parse_typed_id
from storage.schema.genesis import Parameters
from tests.support.hostile_network import HONEST, HOSTILE, network_with_guests
from tests.support.hostile_validator import HostileValidator, hostile_validator
from tests.support.raw_calls import caller, committed, harmless, id_of, order, refusal_of
from tests.support.running_network import until

pytestmark = pytest.mark.cluster

# South reigns from height 24, for twelve blocks.
PARAMETERS = Parameters(rotation_blocks=12)
WITHIN_S = 30


@pytest.fixture(scope="module")
def censor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileValidator]:
    with network_with_guests(tmp_path_factory.mktemp("c") / "net", PARAMETERS) as network:
        network.kill(HOSTILE)
        with hostile_validator(network, *HONEST) as validator:
            yield validator


def test_a_revocation_that_the_primary_leaves_out_is_committed_all_the_same(censor: HostileValidator) -> None:
    network = censor.network
    granted = network.ask(
        "consent", "grant", "--patient", "pia", "--to", "ben", "--purpose", "TREAT", "--node", "north"
    )
    consent = parse_typed_id("c", granted["consent"])
    view = censor.take_turn()
    revocation = caller(network, "pia", "north").call("consent.revoke", Revoke(consent))
    began_s = time.monotonic()

    assert refusal_of(network, "north", revocation) == ""
    reigned = 0
    while network.status("east")["view"] == view and time.monotonic() < began_s + WITHIN_S:
        made = censor.block(harmless(network), view=view)
        censor.member.tell(censor.proposal(made), *HONEST)
        until(lambda made=made: is_at(censor, made.header.height) or network.status("east")["view"] > view)
        censor.follow()
        reigned += 1
        time.sleep(0.6)
    proven = committed(network, "west", id_of(revocation))

    assert proven.outcome.code == "ok"
    assert proven.header.proposer != HOSTILE
    assert proven.header.first_view > view
    assert 3 <= reigned < PARAMETERS.rotation_blocks
    assert time.monotonic() < began_s + WITHIN_S
    said = f"{HOSTILE} leaves out transaction {id_of(revocation)}"
    assert sum(said in network.log(name) for name in HONEST) >= 2


def is_at(censor: HostileValidator, height: int) -> bool:
    return all(censor.network.status(name)["height"] >= height for name in HONEST)


def test_after_that_the_others_agree_as_before(censor: HostileValidator) -> None:
    proven = [order(censor.network, name) for name in HONEST]

    assert [each.outcome.code for each in proven] == ["record.not_found"] * len(HONEST)
