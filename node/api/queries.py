"""Reading the ledger: who is there, what is recorded and consented, who saw what, and what stands in a block."""

import re
from datetime import datetime
from typing import Annotated, Any

import msgspec
import trio
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from node.api.problems import ProblemError, not_found
from node.api.replies import body_of, person, reply, typed
from node.api.services import Services
from node.contracts.entries import load_access, load_consent, load_record
from node.contracts.evidence import load_evidence
from node.contracts.proposals import load_proposal
from node.execution import views
from node.execution.rendering import show_time_ms
from node.execution.trails import audit
from storage.schema.block import OUTCOME
from storage.schema.codec import encode, typed_id

MATCHES_MAX = 20
KEY_HEX_MAX = 512
ENTRIES_PER_TURN = 20
_TYPED = re.compile(r"([rcxaep])-([a-z2-7]{1,52})")
_HEX = re.compile(r"[0-9a-f]{1,64}")

Id = Annotated[str, Path(max_length=64, description="typed id")]
PathDid = Annotated[str, Path(max_length=64, description="DID")]
PatientDid = Annotated[str, Query(alias="patient", max_length=64, description="the patient's DID")]
From = Annotated[str, Query(alias="from", max_length=40, description="RFC 3339")]
To = Annotated[str, Query(alias="to", max_length=40, description="RFC 3339")]


class Check(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A question to ``consent check``; with ``as`` the patient's own DID the answer says what decided."""

    requester: str
    record: str
    purpose: str
    action: str = "read"
    asker: str = msgspec.field(default="", name="as")


_decode_check = msgspec.json.Decoder(Check).decode


class Queries:
    """The routes that only read."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._services = services
        self._ledger = services.ledger
        self.router = APIRouter(tags=["ledger"])
        for path, handler in (
            ("/v1/resolve/{text}", self.resolve),
            ("/v1/blocks/{height}", self.block),
            ("/v1/state/{key}", self.state),
            ("/v1/people/{did}", self.person),
            ("/v1/practitioners", self.practitioners),
            ("/v1/records", self.records),
            ("/v1/records/{record}", self.record),
            ("/v1/consents", self.consents),
            ("/v1/consents/{consent}", self.consent),
            ("/v1/evidence", self.all_evidence),
            ("/v1/evidence/{evidence}", self.evidence),
            ("/v1/audit/patients/{did}", self.audit_patient),
            ("/v1/audit/records/{record}", self.audit_record),
        ):
            self.router.add_api_route(path, handler, methods=["GET"])
        self.router.add_api_route(
            "/v1/consents/check", self.check, methods=["POST"], openapi_extra=body_of("application/json")
        )

    @property
    def _time_s(self) -> int:
        return self._ledger.head.header.time_ms // 1000

    async def resolve(self, text: Annotated[str, Path(max_length=128)]) -> Response:
        """Whole identifiers that a prefix may stand for, at most 20."""
        if match := _TYPED.fullmatch(text):
            prefix, digits = match.groups()
            subjects = self._ledger.subjects_matching(digits, MATCHES_MAX)
            return self._matches([typed_id(prefix, raw) for raw in subjects if self._is(prefix, raw)])
        if _HEX.fullmatch(text):
            return self._matches([raw.hex() for raw in self._ledger.transactions_matching(text, MATCHES_MAX)])
        raise ProblemError(400, "id.malformed", "neither hexadecimal nor a typed id such as c-…", field="text")

    def _matches(self, found: list[str]) -> Response:
        if not found:
            self._ledger.check_history()
        return reply({"matches": found})

    def _is(self, prefix: str, raw: bytes) -> bool:
        state = self._ledger.state
        if prefix == "p":
            return load_proposal(state, raw) is not None
        if prefix == "r":
            return load_record(state, raw) is not None
        if prefix == "a":
            return load_access(state, raw) is not None
        if prefix == "e":
            return load_evidence(state, raw) is not None
        consent = load_consent(state, raw)
        return consent is not None and consent.is_exclusion is (prefix == "x")

    async def block(self, height: Annotated[str, Path(max_length=20, description="height, or head")]) -> Response:
        """A committed block: header, certificate, roots, and what came of each transaction."""
        head = self._ledger.head.header.height
        number = head if height == "head" else int(height) if height.isdecimal() else -1
        if not 0 <= number <= head:
            raise ProblemError(404, "block.not_found", f"the newest block has height {head}", field="height")
        return reply(self._shown_block(number))

    def _shown_block(self, height: int) -> dict[str, Any]:
        header = self._ledger.header(height)
        shown: dict[str, Any] = {
            "height": height,
            "hash": header.digest().hex(),
            "parent": header.parent.hex(),
            "time": show_time_ms(header.time_ms),
            "proposer": header.proposer,
            "epoch": header.epoch,
            "first_view": header.first_view,
            "tx_count": header.tx_count,
            "tx_bytes": header.tx_bytes,
            "tx_root": header.tx_root.hex(),
            "history_root": header.history_root.hex(),
        }
        if height == 0:
            return shown
        block = self._ledger.block(height)
        names = [validator.name for validator in self._ledger.epochs.of(header.epoch).validators]
        outcomes = map(OUTCOME.decode, block.outcomes)
        return shown | {
            "state_root": block.result.state_root.hex(),
            "outcomes_root": block.result.outcomes_root.hex(),
            "view": block.certificate.view,
            "signers": [names[signer] for signer in block.certificate.signers],
            "transactions": [{"transaction": each.id.hex(), "status": each.code} for each in outcomes],
        }

    async def state(self, key: Annotated[str, Path(max_length=KEY_HEX_MAX)], proof: bool = False) -> Response:
        """The value under a key of the state (hexadecimal), and the proof that it stands, or stands not, there."""
        try:
            raw = bytes.fromhex(key)
        except ValueError:
            raise ProblemError(400, "id.malformed", "the key is not hexadecimal", field="key") from None
        value = self._ledger.state.get(raw)
        found, head = self._ledger.prove(raw)
        shown = {
            "key": key,
            "value": None if value is None else value.hex(),
            "height": head.header.height,
            "state_root": head.result.state_root.hex(),
        }
        if proof:
            shown["proof"] = encode(found).hex()
            shown["header"], shown["result"] = encode(head.header).hex(), encode(head.result).hex()
            shown["certificate"] = encode(head.certificate).hex() if head.certificate else None
        return reply(shown)

    async def person(self, did: PathDid) -> Response:
        """Who stands under a DID."""
        return _found(
            views.show_person(self._ledger.state, person(did, "did"), self._time_s), "person", "identity.unknown"
        )

    async def practitioners(self, member: Annotated[str, Query(max_length=32)] = "") -> Response:
        """Those whom a member has enrolled; without a name, this node's."""
        name = member or self._services.custodian.member
        return reply({"practitioners": views.list_practitioners(self._ledger.state, name, self._time_s)})

    async def records(self, patient: PatientDid) -> Response:
        """A patient's records, the newest first."""
        return reply({"records": views.list_records(self._ledger.state, person(patient, "patient"))})

    async def record(self, record: Id) -> Response:
        """What the ledger says of a record."""
        return _found(views.show_record(self._ledger.state, typed("r", record, "record")), "record", "record.not_found")

    async def consents(self, patient: PatientDid) -> Response:
        """A patient's consents and exclusions, the newest first."""
        return reply({"consents": views.list_consents(self._ledger.state, person(patient, "patient"), self._time_s)})

    async def consent(self, consent: Id) -> Response:
        """A consent (c-…) or an exclusion (x-…)."""
        raw = typed(consent[:1] if consent[:1] in ("c", "x") else "c", consent, "consent")
        shown = views.show_consent(self._ledger.state, raw, self._time_s)
        return _found(shown if shown and shown["consent"] == consent else None, "consent", "consent.not_found")

    async def check(self, request: Request) -> Response:
        """Would this be permitted now; to the patient, also by which provision and why."""
        try:
            asked = _decode_check(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProblemError(400, "request.invalid", str(error)) from None
        raw = typed("r", asked.record, "record")
        entry = load_record(self._ledger.state, raw)
        is_for_patient = bool(asked.asker) and entry is not None and person(asked.asker, "as") == entry.patient
        shown = views.check_consent(
            self._ledger.state,
            person(asked.requester, "requester"),
            raw,
            asked.purpose,
            self._time_s,
            action=asked.action,
            is_for_patient=is_for_patient,
        )
        return reply(shown | {"height": self._ledger.head.header.height})

    async def all_evidence(self) -> Response:
        """Which members' keys signed two votes that contradict each other, the newest first."""
        return reply({"evidence": views.list_evidence(self._ledger.state)})

    async def evidence(self, evidence: Id) -> Response:
        """What is proved against one member's key at one height."""
        raw = typed("e", evidence, "evidence")
        return _found(views.show_evidence(self._ledger.state, raw), "evidence", "evidence.not_found")

    async def audit_patient(self, did: PathDid, since: From = "", until: To = "") -> Response:
        """Who saw or changed what of a patient, oldest first."""
        return await self._audit(person(did, "did"), since, until)

    async def audit_record(self, record: Id, since: From = "", until: To = "") -> Response:
        """Who saw a record, oldest first."""
        return await self._audit(typed("r", record, "record"), since, until)

    async def _audit(self, subject: bytes, since: str, until: str) -> Response:
        from_ms, until_ms = _moment_ms(since, "from"), _moment_ms(until, "to")
        head = self._ledger.head.header.height
        entries = []
        for entry in audit(self._ledger, subject, head, from_ms=from_ms or 0, until_ms=until_ms):
            entries.append(entry)
            if len(entries) % ENTRIES_PER_TURN == 0:
                # A long trail must not hold agreement up, which runs on the same loop.
                await trio.lowlevel.checkpoint()
        return reply({"entries": entries, "height": head})


def _found(shown: dict[str, Any] | None, what: str, code: str) -> Response:
    if shown is None:
        raise not_found(what, code)
    return reply(shown)


def _moment_ms(text: str, field: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ProblemError(400, "request.invalid", "a time such as 2026-11-03T10:00:00Z is expected", field=field)
    return int(moment.timestamp() * 1000)
