"""The door: who connects to this node is asked for its name, and let in or turned away."""

import logging
from collections.abc import Awaitable, Callable

import trio
from libp2p.peer.id import ID

from node.network.channels import Traffic
from node.network.limits import NetworkLimits
from node.network.muxer import Muxer
from node.network.tcp import ConnectError, TcpStream
from node.network.transport import Transport

logger = logging.getLogger("caretrace.network")

_ACCEPT_AGAIN_S = 0.2


class Reception:
    """Accepts connections; how many may wait without a name is bounded (the library bounds all it ever accepted)."""

    def __init__(
        self,
        transport: Transport,
        is_welcome: Callable[[ID], bool],
        hold: Callable[[Muxer], Awaitable[None]],
        limits: NetworkLimits,
        traffic: Traffic,
    ) -> None:
        """Hand the connection of each welcome peer to ``hold``, which returns when it ends."""
        self._transport = transport
        self._is_welcome = is_welcome
        self._hold = hold
        self._limits = limits
        self._traffic = traffic
        self._handshakes: dict[TcpStream, trio.CancelScope] = {}

    async def accept(self, listener: trio.SocketListener) -> None:
        """Accept connections until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # Out of descriptors or memory: that passes, and the node must not end of it.
                    logger.warning("cannot accept a connection: %s", error.strerror)
                    await trio.sleep(_ACCEPT_AGAIN_S)
                else:
                    nursery.start_soon(self._receive, TcpStream(stream, is_initiator=False))

    async def _receive(self, tcp: TcpStream) -> None:
        muxer = await self._ask_name(tcp)
        if muxer is not None:
            await self._hold(muxer)

    async def _ask_name(self, tcp: TcpStream) -> Muxer | None:
        """Shake hands; when too many do so at once, the one that has taken longest makes room."""
        scope = trio.CancelScope()
        self._handshakes[tcp] = scope
        if len(self._handshakes) > self._limits.handshakes_max:
            next(iter(self._handshakes.values())).cancel()
        try:
            with scope:
                return await self._transport.shake_hands(tcp, None, self._is_welcome)
        except ConnectError as error:
            logger.debug("refused a connection from %s: %s", tcp.get_remote_address(), error)
        finally:
            del self._handshakes[tcp]
        self._traffic.refused_strangers += 1
        return None
