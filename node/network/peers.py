"""Peers as the rest of the node sees them: by member name, with what is known of them and what can go wrong."""

import re
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9-]{1,32}")
_NODE_KEY_BYTES = 32
REFUSED = "refused by the peer"
"""Why a peer is not connected that was found and does not know this node's key."""


@dataclass(frozen=True)
class Peer:
    """Another member's node: who it is and where it may be found."""

    name: str
    """The member's name, ``[a-z0-9-]{1,32}``."""
    node_key: bytes
    """Its raw Ed25519 public key, 32 bytes; nobody else is accepted under this name."""
    addresses: tuple[str, ...]
    """Multiaddrs of TCP ports, such as ``/ip4/10.0.0.2/tcp/4001``; without any we wait for it to dial us."""

    def __post_init__(self) -> None:
        assert _NAME.fullmatch(self.name), f"not the name of a member: {self.name!r}"
        assert len(self.node_key) == _NODE_KEY_BYTES, "a node key has 32 bytes"


@dataclass(frozen=True)
class PeerStatus:
    """What an operator is told about one peer."""

    name: str
    connected: bool
    latency_ms: float | None
    """Round trip of the last ping, or None while there is none."""
    why: str
    """Why it is not connected, in words such as "connection refused"; empty while it is."""


class PeerFaultError(Exception):
    """A peer sent what no honest peer sends; it is disconnected and stays out for a while.

    Handlers of messages, requests and gossip raise it; its text is the reason that the log and the status show.
    """

    code = "network.peer_fault"


class RequestError(Exception):
    """A peer did not answer a request; ask another one."""

    code = "network.request"


class PeerUnreachableError(RequestError):
    """There is no connection to the peer, or it ended before the answer."""

    code = "network.peer_unreachable"


class RequestRefusedError(RequestError):
    """The peer answers, but not this: it has no such service, not what was asked for, or was asked too often.

    A handler of requests raises it to refuse; its text travels to the asker, so it must hold nothing secret.
    """

    code = "network.request_refused"


class RequestTimeoutError(RequestError):
    """The peer took longer than the asker would wait."""

    code = "network.request_timeout"
