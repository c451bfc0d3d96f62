"""The custodian's duty: ciphertext under a live permit only, and a key only once the ledger says that it was served.

Attack: a requester's node without any checks of its own asks for what it may not have: without a permit, for another
member's access, after a revocation, or for a key without the trace of it. Each answer is therefore given by this
member's own ledger, and everything is looked at again at the moment of release.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from node.contracts.access import withheld
from node.contracts.entries import AccessEntry, RecordEntry, load_access, load_person, load_record
from node.custody.custodian import Custodian
from node.custody.data_keys import DataKey, DataKeys
from node.custody.sealing import RECORD_VERSION, Location, Release, SealError, open_pointer, seal_data_key
from node.custody.vault import Vault, VaultError
from node.custody.wire import (
    CONTENT_REQUEST,
    KEY_REQUEST,
    Chunk,
    CommitFeed,
    ContentRequest,
    KeyRequest,
    ReleasedKey,
    Submit,
    Withheld,
)
from storage.database import HistoryError
from storage.ledger import Ledger
from storage.schema.block import Outcome
from storage.schema.calls import ServeAccess
from storage.schema.codec import DecodeError, Form, encode

LEDGER_LAG_S = 5.0
SERVED_TIMEOUT_S = 20.0
SERVED_LIFETIME_S = 60
TRAIL_LENGTH_MAX = 100
DETAIL_CHARACTERS_MAX = 256

R = TypeVar("R", KeyRequest, ContentRequest)

log = logging.getLogger("caretrace.custody")


class WithheldError(Exception):
    """The custodian gives nothing, and why."""

    def __init__(self, code: str, detail: str) -> None:
        """Name the rule by its stable code."""
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Held:
    """A permit, its record, and where this member keeps it."""

    access: AccessEntry
    record: RecordEntry
    location: Location


class Gatekeeper:
    """Answers members' nodes, this one's own among them, about records that this member keeps."""

    def __init__(
        self,
        custodian: Custodian,
        ledger: Ledger,
        commits: CommitFeed,
        submit: Submit,
        vault: Vault,
        data_keys: DataKeys,
        wall_ms: Callable[[], int],
    ) -> None:
        """Serve from ``vault``; ``wall_ms`` is this machine's clock."""
        self._custodian = custodian
        self._ledger = ledger
        self._commits = commits
        self._submit = submit
        self._vault = vault
        self._data_keys = data_keys
        self._wall_ms = wall_ms
        self._serving: dict[bytes, trio.Lock] = {}

    async def on_content_request(self, peer: str, payload: bytes) -> bytes:
        """Answer a peer's request for ciphertext; ``peer`` is the member that the connection proved."""
        return await self._answer(peer, payload, CONTENT_REQUEST, self.content)

    async def on_key_request(self, peer: str, payload: bytes) -> bytes:
        """Answer a peer's request for a data key."""
        return await self._answer(peer, payload, KEY_REQUEST, self.key)

    async def _answer(
        self, peer: str, payload: bytes, form: Form[R], give: Callable[[str, R], Awaitable[Chunk | ReleasedKey]]
    ) -> bytes:
        about = "nothing readable"
        try:
            request = form.decode(payload)
            about = f"access {request.access.hex()}"
            return encode(await give(peer, request))
        except (WithheldError, DecodeError) as error:
            log.warning("withheld from %s, who asked for %s: %s", peer, about, error.code)
            return encode(Withheld(error.code, str(error)[:DETAIL_CHARACTERS_MAX]))

    async def content(self, peer: str, request: ContentRequest) -> Chunk:
        """Return the next at most 1 MiB of ciphertext, under a live permit of a reader at ``peer``.

        Raises:
            WithheldError: no permit for that member, or it no longer holds.
        """
        await self._catch_up(request.height)
        held = self._permitted(peer, request.access)
        try:
            size_bytes = self._vault.size_bytes(held.location.blob)
            # Attack: an offset that no file system seeks to. Beyond its end a record has no bytes, however far.
            offset = min(request.offset, size_bytes)
            data = await trio.to_thread.run_sync(self._vault.read, held.location.blob, offset)
        except VaultError as error:
            log.error("the content of record %s: %s", held.access.record.hex(), error)
            raise _not_held() from None
        return Chunk(size_bytes, data)

    async def key(self, peer: str, request: KeyRequest) -> ReleasedKey:
        """Return the record's key, sealed to the reader, after the ledger has certified that it is served.

        Raises:
            WithheldError: no permit for that member, the ledger refused the serving, or the permit has ended since.
        """
        await self._catch_up(request.height)
        access = request.access
        lock = self._serving.setdefault(access, trio.Lock())
        try:
            async with lock:
                held = self._permitted(peer, access)
                data_key = await self._open_key(held)
                if held.access.served_height is None:
                    await self._serve(access)
                # Since then a revocation may have been applied, or the permit's time may have run out.
                held = self._permitted(peer, access)
        finally:
            if not lock.locked():
                self._serving.pop(access, None)
        return self._release(access, held, data_key)

    async def _catch_up(self, height: int) -> None:
        # The requester's node may have the permit's block a moment before this one.
        reached = self._ledger.head.header.height
        with trio.move_on_after(LEDGER_LAG_S):
            while reached < height:
                newer = await self._commits.wait_above(reached)
                if newer <= reached:
                    return
                reached = newer

    def _permitted(self, peer: str, access_id: bytes) -> _Held:
        state = self._ledger.state
        access = load_access(state, access_id)
        # To another member this permit does not exist: it learns nothing by asking for what is not its own.
        if access is None or access.member != peer:
            raise WithheldError("access.not_found", "the ledger holds no such permit of a reader at this member")
        record = load_record(state, access.record)
        assert record is not None, "a permit is for a record that stands"
        if record.custodian != self._custodian.member:
            raise WithheldError("access.not_custodian", "another member holds this record")
        location = self._location(record)
        now_ms = max(self._ledger.head.header.time_ms, self._wall_ms())
        year = int(location.date[:4]) if location.date else 0
        if code := withheld(state, access, record, now_ms, year):
            raise WithheldError(code, "the permit does not hold any more")
        return _Held(access, record, location)

    async def _open_key(self, held: _Held) -> DataKey:
        try:
            data_key = await trio.to_thread.run_sync(self._data_keys.get, held.access.record)
            self._vault.size_bytes(held.location.blob)
        except VaultError as error:
            log.error("the key or content of record %s: %s", held.access.record.hex(), error)
            raise _not_held() from None
        return data_key

    def _location(self, record: RecordEntry) -> Location:
        try:
            return open_pointer(self._custodian.encryption_secrets, record.pointer, record.commitment)
        except SealError as error:
            log.error("the pointer of a record of this member: %s", error)
            raise _not_held() from None

    async def _serve(self, access: bytes) -> None:
        """Have the ledger say that the access is served; the contract decides it anew."""
        not_after_s = self._ledger.head.header.time_ms // 1000 + SERVED_LIFETIME_S
        not_after_s = max(not_after_s, self._wall_ms() // 1000 + SERVED_LIFETIME_S)
        _, envelope = self._custodian.sign(not_after_s, "access.served", ServeAccess(access))
        (answer,) = await self._submit((envelope,))
        if not isinstance(answer, bytes):
            raise WithheldError(answer.code, f"the custodian's own node did not take the serving: {answer.detail}")
        outcome = await self._outcome(answer)
        # Refused because it was served before: by this node, which stopped before it saw the commit.
        if outcome.code not in ("ok", "access.already_served"):
            raise WithheldError(outcome.code, "the ledger refused to let the access be served")

    async def _outcome(self, tx_id: bytes) -> Outcome:
        place = self._ledger.locate(tx_id)
        if place is None and await self._commits.wait_for(tx_id, SERVED_TIMEOUT_S):
            place = self._ledger.locate(tx_id)
        if place is None:
            raise WithheldError("access.not_served", "the serving was not committed in time; ask again")
        return self._ledger.outcome(*place)

    def _release(self, access_id: bytes, held: _Held, data_key: DataKey) -> ReleasedKey:
        height = held.access.served_height
        assert height is not None, "no key without the committed trace"
        reader = load_person(self._ledger.state, held.access.requester)
        assert reader is not None, "a permit is for a person who is registered"
        release = Release(
            chain_id=self._custodian.chain_id,
            access=access_id,
            record=held.access.record,
            version=RECORD_VERSION,
            recipient=held.access.requester,
            sealing_key=reader.sealing_key,
            purpose=held.access.purpose,
            commitment=held.record.commitment,
        )
        sealed = seal_data_key(data_key.key, release)
        size_bytes = self._vault.size_bytes(held.location.blob)
        return ReleasedKey(sealed, self._served_by(access_id, height), height, size_bytes)

    def _served_by(self, access_id: bytes, height: int) -> bytes:
        # Of the block that served it, the trail of the access holds nothing else that succeeded: a permit is older.
        try:
            places = self._ledger.trail(access_id, from_height=height, limit=TRAIL_LENGTH_MAX)
        except HistoryError as error:
            raise WithheldError(error.code, str(error)) from None
        outcomes = (self._ledger.outcome(*place) for place in places)
        return next(outcome.id for outcome in outcomes if outcome.code == "ok")


def _not_held() -> WithheldError:
    return WithheldError("record.not_held", "the custodian does not have this record's content or key")
