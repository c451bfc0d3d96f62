"""What only real processes can show: one that is killed, one that is frozen, four that start together."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from node.network.limits import NetworkLimits
from tests.support.members import Member, Node, make_node, members, running, until
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.network

# Importing libp2p takes a second, on a busy machine many.
START_S_MAX = 40
QUICK_TO_NOTICE = NetworkLimits(ping_interval_s=0.2)


@contextmanager
def process_of(member: Member, *peers: Member) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [str(part) for each in (member, *peers) for part in (each.name, each.port)]
    process = subprocess.Popen([sys.executable, "-m", "tests.support.member_process", *arguments], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def greets(node: Node, process: subprocess.Popen[bytes]) -> bool:
    """Whether a message and gossip of this very process have arrived."""
    greeting = b"hello from %d" % process.pid
    return any(message == greeting for _, message in node.messages) and any(
        data.startswith(greeting) for _, data in node.gossip
    )


async def test_a_killed_member_is_missed_at_once_and_welcome_when_it_is_back() -> None:
    ada_member, ben_member = members("ada", "ben")
    ada = make_node(ada_member, [ben_member])
    async with running(ada, meshed=False):
        with process_of(ben_member, ada_member) as first:
            await until(lambda: greets(ada, first), START_S_MAX)
            first.send_signal(signal.SIGKILL)
            await until(lambda: not ada.hears("ben"), 5)
            assert ada.status("ben").why == "connection lost"
            await until(lambda: ada.status("ben").why == "connection refused", 10)

        with process_of(ben_member, ada_member) as second:
            await until(lambda: greets(ada, second), START_S_MAX)
            assert ada.connected == ["ben", "ben"]


async def test_a_frozen_member_is_given_up_and_taken_back_when_it_thaws() -> None:
    ada_member, ben_member = members("ada", "ben")
    ada = make_node(ada_member, [ben_member], QUICK_TO_NOTICE)
    with process_of(ben_member, ada_member) as ben:
        async with running(ada, meshed=False):
            await until(lambda: greets(ada, ben), START_S_MAX)

            os.kill(ben.pid, signal.SIGSTOP)
            await until(lambda: not ada.hears("ben"), 10)
            assert ada.status("ben").why == "no answer to ping for 0.6 s"
            os.kill(ben.pid, signal.SIGCONT)
            await until(lambda: ada.hears("ben"), 10)
            heard = len(ada.gossip)
            await until(lambda: len(ada.gossip) > heard + 3, 8)


async def test_four_members_that_start_together_as_processes_all_hear_each_other() -> None:
    everyone = members("ada", "ben", "cleo", "dora")
    ada = make_node(everyone[0], everyone)
    with (
        process_of(everyone[1], everyone[0], everyone[2], everyone[3]) as ben,
        process_of(everyone[2], everyone[0], everyone[1], everyone[3]) as cleo,
        process_of(everyone[3], everyone[0], everyone[1], everyone[2]) as dora,
    ):
        async with running(ada, meshed=False):
            await until(lambda: all(greets(ada, process) for process in (ben, cleo, dora)), START_S_MAX)


async def test_nothing_is_left_behind_when_a_network_ends() -> None:
    everyone = members("ada", "ben", "cleo")
    descriptors = set(os.listdir("/proc/self/fd"))
    tasks = trio.lowlevel.current_statistics().tasks_living

    for _ in range(2):
        async with running(*(make_node(member, everyone) for member in everyone)):
            pass

    await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
    assert set(os.listdir("/proc/self/fd")) == descriptors
