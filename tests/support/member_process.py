"""One member's network as a process of its own, which greets every peer that it is connected to.

Arguments: its name and port, then the name and port of each peer.
"""

import os
import sys

import trio

from tests.support.members import TOPIC, VOTE, Member, make_node


async def main(member: Member, peers: list[Member]) -> None:
    node = make_node(member, peers)
    greeting = b"hello from %d" % os.getpid()
    node.network.on_connected(lambda _peer: node.network.broadcast(VOTE, greeting))
    async with node.network.run():
        for number in range(10_000):
            await node.network.publish(TOPIC, b"%s, %d" % (greeting, number))
            await trio.sleep(0.05)


if __name__ == "__main__":
    names, ports = sys.argv[1::2], map(int, sys.argv[2::2])
    first, *others = map(Member, names, ports)
    trio.run(main, first, others)
