"""A node without all of the history never says of what may lie below that it is not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api.services import Services
from node.keys.did import encode_did
from storage.ledger import Ledger
from storage.places import replace_ledger
from storage.schema.codec import typed_id
from tests.support.arrivals import arrive, held, opened, take_one_below
from tests.support.live_node import LiveChain, MemberNode
from tests.support.provisions import provision
from tests.support.served import operating, services_of
from tests.support.small_ledger import Actor

PIA, BEN = Actor("pia"), Actor("ben")


@pytest.fixture
def consent(chain: LiveChain) -> bytes:
    chain.register(PIA)
    chain.enrol(BEN)
    return chain.grant(PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",)))


@pytest.fixture
def partial(chain: LiveChain, consent: bytes, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that began with a snapshot of the chain."""
    target = tmp_path / "joined" / "ledger"
    assert arrive(chain, target, held(chain))
    replace_ledger(target)
    ledger = opened(chain, target)
    yield ledger
    ledger.close()


@pytest.fixture
def services(chain: LiveChain, north: MemberNode, partial: Ledger) -> Services:
    return services_of(north, chain, ledger=partial)


async def test_what_may_lie_below_is_answered_with_where_the_history_begins(
    chain: LiveChain, services: Services, consent: bytes, tmp_path: Path
) -> None:
    tx_id = chain.kept.outcome(1, 0).id.hex()
    paths = [
        "/v1/blocks/1",
        f"/v1/transactions/{tx_id}",
        f"/v1/transactions/{tx_id}/receipt",
        f"/v1/transactions/{'00' * 32}",
        "/v1/resolve/00",
        f"/v1/audit/patients/{encode_did(PIA.key)}",
    ]
    async with operating(services, tmp_path / "s") as client:
        answers = [await client.get(path) for path in paths]
        follower = await client.get("/v1/events", headers={"last-event-id": "1"})
        now = await client.get(f"/v1/consents/{typed_id('c', consent)}")

    for answer in [*answers, follower]:
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "history.incomplete"
        assert answer.json()["detail"].startswith("this node has the history from block 4 on")
    assert now.json()["status"] == "active"


async def test_once_the_history_is_here_the_answers_are_those_of_every_other_node(
    chain: LiveChain, north: MemberNode, services: Services, partial: Ledger, tmp_path: Path
) -> None:
    while partial.history_from > 1:
        take_one_below(chain, partial)
    tx_id = chain.kept.outcome(2, 0).id.hex()
    paths = ["/v1/blocks/1", f"/v1/transactions/{tx_id}", f"/v1/audit/patients/{encode_did(PIA.key)}"]

    async with operating(services, tmp_path / "s") as client:
        here = [(await client.get(path)).json() for path in paths]
        missing = await client.get(f"/v1/transactions/{'00' * 32}")
    async with operating(services_of(north, chain), tmp_path / "t") as client:
        there = [(await client.get(path)).json() for path in paths]

    assert here == there
    assert missing.status_code == 404
