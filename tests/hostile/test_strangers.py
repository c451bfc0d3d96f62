"""Who is no member gets no further than the handshake, and a member who says a thing twice has said it once."""

import socket
from contextlib import ExitStack

import pytest

from node.network.limits import NetworkLimits
from node.replication.intake import CHANNEL
from storage.schema.calls import Grant
from storage.schema.codec import encode
from storage.schema.transaction import encode_envelope, signing_preimage
from tests.support.chain import seed_of
from tests.support.hostile_member import HostileMember, running
from tests.support.hostile_network import GUESTS, HONEST, NAMES, guest
from tests.support.hostile_validator import HostileValidator, reign_of
from tests.support.raw_calls import caller, committed, id_of, order, provision, refusal_of
from tests.support.running_network import RunningNetwork, until
from tests.support.twin import second_signature

pytestmark = pytest.mark.cluster


def connected_hospitals(network: RunningNetwork, name: str) -> set[str]:
    # The guests of other tests come and go.
    return {peer["name"] for peer in network.status(name)["peers"] if peer["connected"] and peer["name"] in NAMES}


def test_who_is_no_member_is_refused_and_the_listeners_live(bad: HostileValidator) -> None:
    before = {name: connected_hospitals(bad.network, name) for name in HONEST}

    with running(HostileMember(bad.genesis, "stranger", seed_of("stranger"), HONEST)) as stranger:
        until(lambda: stranger.network.traffic.failed_dials >= 3 * len(HONEST))
        assert {stranger.status(name).why for name in HONEST} == {"refused by the peer"}
        assert not any(stranger.send(name, b"hello") for name in HONEST)
        assert stranger.heard == []
        assert {name: connected_hospitals(bad.network, name) for name in HONEST} == before

    with guest(bad.network, GUESTS[0]) as member:
        assert member.is_connected(*HONEST)
    order(bad.network)


def test_connections_that_say_nothing_or_nonsense_keep_no_member_out(bad: HostileValidator) -> None:
    addresses = [(host, int(port)) for host, port in (bad.network.place(name).p2p.split("/")[2::2] for name in HONEST)]

    with ExitStack() as stack:
        for number in range(2 * NetworkLimits().handshakes_max):
            connection = stack.enter_context(socket.create_connection(addresses[number % 3], 5))
            connection.sendall(b"" if number % 2 else b"GET / HTTP/1.1\r\n\r\n" * number)
        with guest(bad.network, GUESTS[1]) as member:
            assert member.is_connected(*HONEST)

    order(bad.network)


def test_an_envelope_to_the_primary_and_its_twin_to_the_backups_is_committed_once_in_the_first_view(
    bad: HostileValidator,
) -> None:
    network, pia = bad.network, caller(bad.network, "pia", "north")
    body = pia.body("consent.grant", Grant(provision(), None))
    envelope = pia.signed(body)
    twin = encode_envelope(body, [second_signature(pia.seed, signing_preimage(body))])
    view, primary = reign_of(network, *HONEST)
    backups = [name for name in HONEST if name != primary]

    bad.member.tell(encode((twin,)), *backups, channel=CHANNEL)
    until(lambda: all(network.status(name)["mempool"] == 1 for name in backups))
    bad.member.tell(encode((envelope,)), primary, channel=CHANNEL)
    proven = [committed(network, name, id_of(envelope)) for name in HONEST]
    until(lambda: network.is_level(*HONEST))

    assert len({each.header.digest() for each in proven}) == 1
    assert {each.transaction.envelope for each in proven} == {envelope}
    assert (proven[0].header.first_view, proven[0].header.proposer) == (view, primary)
    assert {network.status(name)["view"] for name in HONEST} == {view}
    assert {refusal_of(network, name, each) for name in HONEST for each in (envelope, twin)} == {"tx.replayed"}
