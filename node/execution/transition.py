"""How a block becomes state: every call by its rule, in order, each all or nothing (docs/spec/block.md, Execution).

Only ``ContractError`` makes a refused outcome. Any other exception is a bug of ours and stops the node before it
votes: to go on would be to guess what the others compute.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.contracts.contract import Call, ContractError
from node.contracts.entries import load_seen_count, load_validators
from node.contracts.overlay import Overlay
from node.contracts.registry import RULES
from node.execution.parent import Ground
from storage.merkle import log
from storage.schema import events
from storage.schema.block import Header, Outcome, Result
from storage.schema.codec import encode
from storage.schema.genesis import Genesis, Parameters
from storage.schema.seen import seen_count_key, seen_digest, seen_key
from storage.schema.transaction import Transaction
from storage.schema.validators import ValidatorSet
from storage.state import PreparedState

SEEN_EXPIRED_PER_BLOCK = 16

# By which of their identifiers events stand in the trail.
_SUBJECTS: dict[type, Callable[[Any], tuple[bytes | None, ...]]] = {
    events.PatientRegistered: lambda event: (event.patient,),
    events.PractitionerEnrolled: lambda event: (event.practitioner,),
    events.PractitionerRevoked: lambda event: (event.practitioner,),
    events.RecordRegistered: lambda event: (event.record, event.patient),
    events.ConsentGranted: lambda event: (event.consent, event.patient),
    events.ConsentRevoked: lambda event: (event.consent, event.patient),
    events.ExclusionSet: lambda event: (event.exclusion, event.patient),
    events.ExclusionEnded: lambda event: (event.exclusion, event.patient),
    events.AccessPermitted: lambda event: (
        event.access,
        event.record,
        event.patient,
        event.requester,
        event.consent,
    ),
    events.AccessDenied: lambda event: (event.record, event.patient, event.requester),
    events.AccessServed: lambda event: (event.access, event.record, event.patient, event.requester),
    events.ProposalMade: lambda event: (event.proposal,),
    events.ProposalVoted: lambda event: (event.proposal,),
    events.ProposalEnded: lambda event: (event.proposal,),
    events.MemberChanged: lambda event: (event.organisation_key,),
    events.KeysReplaced: lambda event: (event.organisation_key,),
    events.ValidatorsChanged: lambda _: (),
    events.Refused: lambda _: (),
    events.EquivocationProven: lambda event: (event.evidence,),
}


@dataclass(frozen=True, slots=True)
class Execution:
    """What executing a block gives; nothing of it is written yet.

    ``seen`` holds the block's ids, sorted, by the minute in which they expire; ``expired`` names the lists of seen
    ids, by minute and height, that go with this block; ``trail`` pairs a subject with the outcome that concerns it:
    a refusal that concerns nobody else concerns its first signer. ``validators`` decide the next height.
    """

    outcomes: tuple[bytes, ...]
    writes: dict[bytes, bytes | None]
    result: Result
    prepared: PreparedState
    seen: dict[int, tuple[bytes, ...]]
    expired: tuple[tuple[int, int], ...]
    trail: tuple[tuple[bytes, int], ...]
    refused_count: int
    validators: ValidatorSet


def execute_block(header: Header, transactions: Sequence[Transaction], ground: Ground, genesis: Genesis) -> Execution:
    """Work out what a block, checked before, does to the state that it stands on; changes nothing.

    The order of the block is the order of execution: ``check_block`` has seen to it that urgent calls stand first.
    """
    overlay = Overlay(ground.state)
    in_force = load_validators(overlay)
    outcomes: list[bytes] = []
    trail: list[tuple[bytes, int]] = []
    refused_count = 0
    for position, transaction in enumerate(transactions):
        code, told = _execute_one(header, transaction, overlay, genesis.parameters, in_force)
        refused_count += code != "ok"
        outcomes.append(encode(Outcome("transaction", transaction.id, code, told)))
        trail += _trail(position, transaction, told)
    seen = _ids_by_minute(transactions)
    expired = ground.expired_seen(header.time_ms // 60_000, SEEN_EXPIRED_PER_BLOCK + len(seen))
    _remember(overlay, header.height, seen, expired)
    writes = overlay.writes()
    prepared = ground.state.prepare(writes)
    outcomes_root = log.root([log.leaf_hash(outcome) for outcome in outcomes])
    validators = load_validators(overlay)
    result = Result(prepared.root, outcomes_root, len(outcomes), validators.digest())
    return Execution(tuple(outcomes), writes, result, prepared, seen, expired, tuple(trail), refused_count, validators)


def _execute_one(
    header: Header, transaction: Transaction, overlay: Overlay, parameters: Parameters, in_force: ValidatorSet
) -> tuple[str, tuple[events.Event, ...]]:
    body = transaction.body
    call = Call(
        transaction.id,
        body.signers,
        body.payer,
        body.method,
        transaction.arguments,
        header.height,
        header.time_ms,
        parameters,
        in_force,
        header.chain_id,
    )
    try:
        changes = RULES[body.method](call, overlay)
    except ContractError as error:
        return error.code, error.events
    overlay.apply(changes.writes)
    return "ok", changes.events


def trail_of(transactions: Sequence[Transaction], outcomes: Sequence[Outcome]) -> tuple[tuple[bytes, int], ...]:
    """Return the trail of a block from what came of it, for who has not executed it."""
    pairs = enumerate(zip(transactions, outcomes, strict=True))
    return tuple(entry for position, (each, outcome) in pairs for entry in _trail(position, each, outcome.events))


def _trail(position: int, transaction: Transaction, told: tuple[events.Event, ...]) -> list[tuple[bytes, int]]:
    return [(subject, position) for subject in _subjects(told) or transaction.body.signers[:1]]


def _subjects(told: tuple[events.Event, ...]) -> list[bytes]:
    subjects = dict.fromkeys(subject for event in told for subject in _SUBJECTS[type(event)](event))
    return [subject for subject in subjects if subject is not None]


def _remember(
    overlay: Overlay, height: int, seen: Mapping[int, tuple[bytes, ...]], expired: Sequence[tuple[int, int]]
) -> None:
    overlay.apply({seen_key(minute, height): seen_digest(ids) for minute, ids in seen.items()})
    overlay.apply({seen_key(*place): None for place in expired})
    if len(seen) != len(expired):
        overlay.apply({seen_count_key(): encode(load_seen_count(overlay) + len(seen) - len(expired))})


def _ids_by_minute(transactions: Sequence[Transaction]) -> dict[int, tuple[bytes, ...]]:
    by_minute: dict[int, list[bytes]] = {}
    for transaction in transactions:
        by_minute.setdefault(transaction.body.not_after_s // 60, []).append(transaction.id)
    return {minute: tuple(sorted(ids)) for minute, ids in sorted(by_minute.items())}
