"""Which rule a method names."""

from collections.abc import Callable

from node.contracts import access, consent, evidence, governance, membership, people, record
from node.contracts.contract import Call, Changes, StateReader

RULES: dict[str, Callable[[Call, StateReader], Changes]] = {
    "identity.register_patient": people.register_patient,
    "identity.enrol_practitioner": people.enrol_practitioner,
    "identity.revoke_practitioner": people.revoke_practitioner,
    "record.register": record.register,
    "consent.grant": consent.grant,
    "consent.revoke": consent.revoke,
    "consent.exclude": consent.exclude,
    "consent.end_exclusion": consent.end_exclusion,
    "access.request": access.request,
    "access.served": access.served,
    "network.propose": governance.propose,
    "network.vote": governance.vote,
    "network.replace_keys": membership.replace_keys,
    "network.evidence": evidence.prove_equivocation,
}


def execute(call: Call, state: StateReader) -> Changes:
    """Apply the rule of the call's method to a state, which stays as it is.

    Raises:
        ContractError: the call is against the rule.
    """
    return RULES[call.method](call, state)
