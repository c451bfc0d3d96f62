"""Lays what this member has seen of an equivocator before the network, unless another was faster.

What the engine accuses somebody of becomes one transaction, ``network.evidence``. All who saw it wait for their turn,
in an order that the evidence itself gives, so that as a rule one of them reports. What is pending is lost with the
process: others have seen it too.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from consensus.engine import Accuse
from consensus.pbft.messages import MESSAGE, Vote
from node.contracts.entries import load_validators
from node.contracts.evidence import HEIGHTS_BACK_MAX, load_evidence
from node.replication.chain import Chain
from node.replication.intake import Refusal
from storage.schema.calls import Evidence, SignedVote
from storage.schema.codec import Value
from storage.schema.evidence import EvidenceError, evidence_id, verify_evidence
from storage.schema.validators import ValidatorSet

PENDING_MAX = 64
TURN_S = 3.0
LOOK_EVERY_S = 0.5
LIFETIME_S = 300

log = logging.getLogger("caretrace.replication")

Sign = Callable[[int, str, Value], tuple[bytes, bytes]]
Submit = Callable[[Sequence[bytes]], Awaitable[list[bytes | Refusal]]]


@dataclass(slots=True)
class _Report:
    member: str
    evidence: Evidence
    due_s: float


class Accusations:
    """Turns accusations into evidence on the ledger, each once."""

    def __init__(self, name: str, chain: Chain, sign: Sign, submit: Submit, wall_ms: Callable[[], int]) -> None:
        """Report as the member ``name``, whose service key ``sign`` signs with."""
        self._name = name
        self._chain = chain
        self._sign = sign
        self._submit = submit
        self._wall_ms = wall_ms
        self._pending: dict[bytes, _Report] = {}
        self._wake = trio.Event()

    def accuse(self, accusation: Accuse) -> None:
        """Take an accusation of the engine's, both votes checked."""
        first, second = MESSAGE.decode(accusation.first), MESSAGE.decode(accusation.second)
        assert isinstance(first, Vote), "an accusation is of two votes"
        assert isinstance(second, Vote), "an accusation is of two votes"
        validators = load_validators(self._chain.ledger.state)
        key = next(each.node_key for each in validators.validators if each.name == accusation.member)
        evidence = Evidence(key, first.epoch, first.view, first.height, _signed(first), _signed(second))
        try:
            verify_evidence(evidence, self._chain.genesis.chain_id)
        except EvidenceError as error:
            # With the epoch the member has got another key, under which this proves nothing.
            log.warning("what %s signed is no evidence any more: %s", accusation.member, error)
            return
        name = evidence_id(key, first.height)
        if name not in self._pending and len(self._pending) < PENDING_MAX:
            due_s = trio.current_time() + TURN_S * turn(validators, self._name, accusation.member, name)
            self._pending[name] = _Report(accusation.member, evidence, due_s)
            self._wake.set()

    async def run(self) -> None:
        """Report what nobody else has reported, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._pending:
                await trio.sleep(LOOK_EVERY_S)
                for name in list(self._pending):
                    await self._report(name)

    async def _report(self, name: bytes) -> None:
        report, chain = self._pending[name], self._chain
        height = report.evidence.height
        next_height = chain.head.header.height + 1
        if height < next_height - HEIGHTS_BACK_MAX or load_evidence(chain.ledger.state, name) is not None:
            del self._pending[name]
        elif height <= next_height and trio.current_time() >= report.due_s:
            report.due_s = trio.current_time() + LIFETIME_S
            _, envelope = self._sign(self._wall_ms() // 1000 + LIFETIME_S, "network.evidence", report.evidence)
            (answer,) = await self._submit((envelope,))
            if isinstance(answer, Refusal):
                log.error("the evidence against %s was not taken: %s", report.member, answer.detail)
            else:
                log.warning("reported that %s signed two different statements: %s", report.member, answer.hex())


def turn(validators: ValidatorSet, name: str, accused: str, evidence: bytes) -> int:
    """Return how many validators report before this one; who does not vote reports last."""
    others = [each.name for each in validators.validators if each.name != accused]
    if name not in others:
        return len(others)
    return (others.index(name) - int.from_bytes(evidence[:8], "big")) % len(others)


def _signed(vote: Vote) -> SignedVote:
    return SignedVote(vote.kind.value, vote.digest, vote.result, vote.signature)
