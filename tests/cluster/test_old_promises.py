"""A node that may have promised more than it remembers does not vote: an old data folder, a second machine."""

import shutil

import pytest

from tests.support.damage import copy_of, kept_aside, started, why_it_does_not_vote
from tests.support.raw_calls import order
from tests.support.running_network import RunningNetwork, until

pytestmark = pytest.mark.cluster


def test_a_node_with_an_old_data_folder_follows_and_says_why_until_it_has_the_newest_back(
    own_network: RunningNetwork,
) -> None:
    network, old = own_network, own_network.folder / "old"
    network.kill("west")
    shutil.copytree(network.place("west").home / "data", old)
    network.start("west")
    order(network)
    until(network.is_level)

    with kept_aside(network, "west") as data:
        shutil.rmtree(data)
        shutil.copytree(old, data)
        with started(network, network.place("west")) as process:
            words = why_it_does_not_vote(network.place("west"), process)
            order(network, "west")
            until(network.is_level)
    network.start("west")

    assert "votes no more and only follows" in words
    assert "missing from its vote log" in words
    assert "why_not" not in network.status("west")


def test_of_two_machines_with_the_same_keys_only_the_one_that_remembers_its_votes_votes(
    own_network: RunningNetwork,
) -> None:
    network = own_network
    network.kill("west")
    twin = copy_of(network, "west")
    network.start("west")
    order(network)
    until(network.is_level)

    with started(network, twin) as process:
        words = why_it_does_not_vote(twin, process)
        order(network)
    until(lambda: network.is_ready("west"))
    order(network, "west")
    until(network.is_level)

    assert "votes no more and only follows" in words
    assert "missing from its vote log" in words
    assert "why_not" not in network.status("west")
