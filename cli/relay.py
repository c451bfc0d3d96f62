"""The relay of a test network: a process that carries the nodes' bytes, so that their cables can be cut and slowed.

It holds no key and understands nothing: what it carries is encrypted from node to node. It is no part of a node and
runs without trio, as all of the command line does.
"""

import os
import secrets
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from cli.cluster import Cluster, load_cluster
from cli.errors import CliError
from cli.weather import ASK_S, MESSAGE_BYTES_MAX, Forecast, Report, Slowness, Weather, relay_socket
from node.config import parse_multiaddr

PIECE_BYTES = 16 * 1024
# What is on its way in one direction of a connection; a sender of more waits, as behind any full cable.
HELD_BYTES_MAX = 1 << 20
# What TCP waits on a short cable before it sends again what was lost.
RESEND_S = 0.2
BACKLOG = 64

Uniform = Callable[[float, float], float]


class Flow:
    """One direction of a connection: what one node sends to another, in order, each piece with its time."""

    def __init__(self, sender: str, receiver: str, source: socket.socket, sink: socket.socket) -> None:
        """Carry from ``source`` to ``sink``."""
        self.sender, self.receiver = sender, receiver
        self.source, self.sink = source, sink
        self.is_ended = False
        self.is_deaf = False
        self.is_blocked = False
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0

    @property
    def wants_more(self) -> bool:
        """Whether the sender may send."""
        return not self.is_ended and self._held_bytes < HELD_BYTES_MAX

    @property
    def is_over(self) -> bool:
        """Whether the sender has ended, and all that it sent has arrived."""
        return self.is_ended and not self._held

    @property
    def due_s(self) -> float | None:
        """When the next piece arrives."""
        return self._held[0][0] if self._held and not self.is_blocked else None

    def read(self, now_s: float, delay_s: float) -> None:
        """Take in what the sender has sent, to arrive ``delay_s`` later and after all before it."""
        try:
            piece = self.source.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.is_ended = True
        elif not self.is_deaf:
            last_s = self._held[-1][0] if self._held else now_s
            self._held.append((max(last_s, now_s + delay_s), piece))
            self._held_bytes += len(piece)

    def write(self, now_s: float) -> None:
        """Let arrive what is due, as far as the receiver takes it."""
        self.is_blocked = False
        while self._held and self._held[0][0] <= now_s:
            due_s, piece = self._held.popleft()
            try:
                taken = self.sink.send(piece)
            except BlockingIOError:
                taken = 0
            except OSError:
                # The receiver is gone. The sender learns it when a word of the receiver's arrives, its end.
                self.is_deaf = True
                self._held.clear()
                self._held_bytes = 0
                return
            self._held_bytes -= taken
            if taken < len(piece):
                self._held.appendleft((due_s, piece[taken:]))
                self.is_blocked = True
                return


class Cable:
    """One connection between two nodes; it reaches the node that is called once both directions are open."""

    def __init__(self, caller: str, called: str, arrived: socket.socket) -> None:
        """Take what ``caller`` has opened."""
        self.caller, self.called = caller, called
        self.sockets = (arrived, socket.socket())
        for each in self.sockets:
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near, far = self.sockets
        self.flows = (Flow(caller, called, near, far), Flow(called, caller, far, near))
        self.is_through = False

    def reach(self, address: tuple[str, int]) -> None:
        """Connect to the node that is called; if that fails, the first reading says so."""
        self.is_through = True
        self.sockets[1].connect_ex(address)

    def close(self) -> None:
        """End both connections."""
        for each in self.sockets:
            each.close()


class Relay:
    """Every cable of a network, and the weather over them."""

    def __init__(self, cluster: Cluster, uniform: Uniform) -> None:
        """Listen for each node where another is told to reach it.

        Raises:
            OSError: another process listens there.
        """
        self._folder = cluster.folder
        self._uniform = uniform
        self._weather = Weather()
        self._cables: list[Cable] = []
        self._listeners: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._stopped = False
        self._addresses = {place.name: parse_multiaddr(place.p2p) for place in cluster.places}
        for place in cluster.places:
            for called, address in place.reach:
                listener = socket.create_server(parse_multiaddr(address), backlog=BACKLOG)
                self._listen(listener, partial(self._take, place.name, called))
        path = relay_socket(self._folder)
        path.unlink(missing_ok=True)
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(path))
        control.listen(BACKLOG)
        self._listen(control, self._hear)

    def _listen(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        def accept(_mask: int) -> None:
            # Who called may have given up already.
            with suppress(BlockingIOError, ConnectionAbortedError):
                take(listener.accept()[0])

        listener.setblocking(False)
        self._listeners.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, accept)

    def run(self) -> None:
        """Carry until a command says stop."""
        try:
            while not self._stopped:
                for key, mask in self._selector.select(self._pause_s()):
                    key.data(mask)
                now_s = time.monotonic()
                for cable in list(self._cables):
                    self._carry(cable, now_s)
        finally:
            for cable in list(self._cables):
                self._drop(cable)
            for listener in self._listeners:
                listener.close()
            self._selector.close()
            # Last: who has told it to stop waits for this.
            relay_socket(self._folder).unlink()

    def _take(self, caller: str, called: str, arrived: socket.socket) -> None:
        # A node calls another once at a time: what it had called before and did not reach, it has given up.
        for cable in [c for c in self._cables if (c.caller, c.called) == (caller, called) and not c.is_through]:
            self._drop(cable)
        self._cables.append(Cable(caller, called, arrived))

    def _carry(self, cable: Cable, now_s: float) -> None:
        """Do for a connection what can be done now, and watch for what may be possible later."""
        opened = [flow for flow in cable.flows if (flow.sender, flow.receiver) not in self._weather.cuts]
        if not cable.is_through:
            if len(opened) < len(cable.flows):
                return
            cable.reach(self._addresses[cable.called])
        for flow in opened:
            flow.write(now_s)
        if any(flow.is_over for flow in opened):
            self._drop(cable)
            return
        for index, each in enumerate(cable.sockets):
            outgoing, incoming = cable.flows[index], cable.flows[1 - index]
            wanted = selectors.EVENT_READ if outgoing in opened and outgoing.wants_more else 0
            if incoming in opened and incoming.is_blocked:
                wanted |= selectors.EVENT_WRITE
            self._watch(each, wanted, outgoing)

    def _watch(self, each: socket.socket, wanted: int, outgoing: Flow) -> None:
        key = self._selector.get_map().get(each.fileno())
        if not wanted:
            if key is not None:
                self._selector.unregister(each)
            return
        if key is None:
            self._selector.register(each, wanted, lambda mask: self._read(outgoing, mask))
        elif key.events != wanted:
            self._selector.modify(each, wanted, key.data)

    def _read(self, flow: Flow, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            flow.read(time.monotonic(), self._delay_s(flow))

    def _delay_s(self, flow: Flow) -> float:
        slow = [self._weather.slow[name] for name in (flow.sender, flow.receiver) if name in self._weather.slow]
        return sum(map(self._hold_up_s, slow))

    def _hold_up_s(self, slow: Slowness) -> float:
        delay_s = max(0.0, slow.delay_ms + self._uniform(-slow.jitter_ms, slow.jitter_ms)) / 1000
        return delay_s + (RESEND_S if self._uniform(0, 100) < slow.loss_percent else 0.0)

    def _pause_s(self) -> float | None:
        """How long nothing happens by itself; None if a socket must say something first."""
        due = [
            flow.due_s
            for cable in self._cables
            for flow in cable.flows
            if flow.due_s is not None and (flow.sender, flow.receiver) not in self._weather.cuts
        ]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _drop(self, cable: Cable) -> None:
        for flow in cable.flows:
            self._watch(flow.source, 0, flow)
        cable.close()
        self._cables.remove(cable)

    def _hear(self, asker: socket.socket) -> None:
        """Answer a command. One that says nothing sensible in time is left without an answer."""
        with asker:
            asker.settimeout(ASK_S)
            said = b""
            try:
                while (piece := asker.recv(MESSAGE_BYTES_MAX)) and len(said) <= MESSAGE_BYTES_MAX:
                    said += piece
                word = msgspec.json.decode(said, type=Forecast)
                self._weather = self._weather if word.weather is None else word.weather
                self._stopped = word.stop
                asker.sendall(msgspec.json.encode(Report(os.getpid(), self._weather)))
            except (OSError, msgspec.DecodeError) as error:
                print(f"a command was not understood: {error}", file=sys.stderr, flush=True)


def main(folder: Path) -> int:
    """Be the relay of a network until a command says stop."""
    try:
        Relay(load_cluster(folder), secrets.SystemRandom().uniform).run()
    except (CliError, OSError) as error:
        print(f"the relay ends: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
