"""The requester's side: asks the custodian for ciphertext and key, by the network or, if it is us, directly."""

from collections.abc import Callable
from typing import TypeVar

import trio

from node.contracts.entries import AccessEntry, load_access, load_record
from node.custody.gatekeeper import Gatekeeper, WithheldError
from node.custody.wire import (
    CONTENT_ANSWER,
    CONTENT_SERVICE,
    KEY_ANSWER,
    KEY_SERVICE,
    Chunk,
    ContentRequest,
    KeyRequest,
    Peers,
    PeerUnreachableError,
    ReleasedKey,
    Withheld,
)
from storage.ledger import Ledger
from storage.schema.codec import DecodeError, encode

KEY_TIMEOUT_S = 30.0
CHUNK_TIMEOUT_S = 15.0
ATTEMPTS = 3
PAUSE_S = 0.5

T = TypeVar("T")


class CustodianUnreachableError(Exception):
    """The custodian's node does not answer; it can be asked again while the permit lives.

    Attributes:
        since_ms: when it first did not answer, milliseconds since 1970.
    """

    code = "custodian.unreachable"

    def __init__(self, custodian: str, since_ms: int, detail: str) -> None:
        """Say who, since when and what happened."""
        super().__init__(f"{custodian} does not answer: {detail}")
        self.custodian = custodian
        self.since_ms = since_ms


class Reader:
    """Fetches what this member's readers have been permitted to read."""

    def __init__(self, member: str, ledger: Ledger, own: Gatekeeper, peers: Peers, wall_ms: Callable[[], int]) -> None:
        """Ask ``own`` for records that this member keeps itself, and ``peers`` for all others."""
        self._member = member
        self._ledger = ledger
        self._own = own
        self._peers = peers
        self._wall_ms = wall_ms
        self._silent_since_ms: dict[str, int] = {}

    async def fetch_key(self, access_id: bytes) -> ReleasedKey:
        """Return the record's key, sealed to the reader of an access.

        Raises:
            WithheldError: there is no such permit here, or the custodian gives nothing.
            CustodianUnreachableError: no answer.
        """
        access, custodian = self._permit(access_id)
        request = KeyRequest(access_id, access.height)
        if custodian == self._member:
            return await self._own.key(self._member, request)
        payload = await self._ask(custodian, KEY_SERVICE, encode(request), KEY_TIMEOUT_S, attempts=1)
        answer = self._decoded(custodian, KEY_ANSWER.decode, payload)
        if isinstance(answer, Withheld):
            raise WithheldError(answer.code, answer.detail)
        return answer

    async def fetch_chunk(self, access_id: bytes, offset: int) -> Chunk:
        """Return at most 1 MiB of the ciphertext from an offset; it is the reader who can tell whether it is right.

        Raises:
            WithheldError: there is no such permit here, or the custodian gives nothing.
            CustodianUnreachableError: no answer, or none of a custodian's.
        """
        access, custodian = self._permit(access_id)
        request = ContentRequest(access_id, access.height, offset)
        if custodian == self._member:
            return await self._own.content(self._member, request)
        payload = await self._ask(custodian, CONTENT_SERVICE, encode(request), CHUNK_TIMEOUT_S, ATTEMPTS)
        answer = self._decoded(custodian, CONTENT_ANSWER.decode, payload)
        if isinstance(answer, Withheld):
            raise WithheldError(answer.code, answer.detail)
        if not answer.data or offset + len(answer.data) > answer.size_bytes:
            raise self._unreachable(custodian, "it sent less or more than the content")
        return answer

    def _permit(self, access_id: bytes) -> tuple[AccessEntry, str]:
        access = load_access(self._ledger.state, access_id)
        if access is None:
            raise WithheldError("access.not_found", "the ledger of this node holds no such permit")
        if access.member != self._member:
            raise WithheldError("access.other_member", f"ask the node of {access.member}, where the reader is")
        record = load_record(self._ledger.state, access.record)
        assert record is not None, "a permit is for a record that stands"
        return access, record.custodian

    async def _ask(self, custodian: str, service: str, payload: bytes, timeout_s: float, attempts: int) -> bytes:
        for attempt in range(1, attempts + 1):
            try:
                answer = await self._peers.request(custodian, service, payload, timeout_s)
            except PeerUnreachableError as error:
                if attempt == attempts:
                    raise self._unreachable(custodian, str(error)) from None
                await trio.sleep(PAUSE_S)
                continue
            self._silent_since_ms.pop(custodian, None)
            return answer
        raise AssertionError("at least one attempt is made")

    def _decoded(self, custodian: str, decode: Callable[[bytes], T], payload: bytes) -> T:
        try:
            return decode(payload)
        except DecodeError as error:
            raise self._unreachable(custodian, f"its answer is malformed: {error}") from None

    def _unreachable(self, custodian: str, detail: str) -> CustodianUnreachableError:
        since_ms = self._silent_since_ms.setdefault(custodian, self._wall_ms())
        return CustodianUnreachableError(custodian, since_ms, detail)
