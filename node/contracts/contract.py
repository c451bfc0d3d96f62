"""The contract of contracts: what a rule is given, what it may answer, and how it refuses.

A rule is ``execute(call, state) -> Changes``. It reads exact keys, writes nothing itself, and knows no other time
than the block's. Refusing is raising ``ContractError``: nothing of the call is kept but the refusal itself.
"""

from typing import Any, Protocol

import msgspec

from storage.schema.events import Event, Refused
from storage.schema.genesis import Parameters
from storage.schema.validators import ValidatorSet

DETAIL_CHARACTERS_MAX = 256


class StateReader(Protocol):
    """State as a rule sees it."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under an exact key, or None if there is none."""
        ...


class Call(msgspec.Struct, frozen=True, gc=False):
    """One call, its signatures verified and its payer bound; ``time_ms`` is the block's.

    ``validators`` is the set that decides the block. What the block's calls make of it stands in the state.
    """

    tx_id: bytes
    signers: tuple[bytes, ...]
    payer: str
    method: str
    arguments: Any
    height: int
    time_ms: int
    parameters: Parameters
    validators: ValidatorSet
    chain_id: bytes

    @property
    def time_s(self) -> int:
        """The block's time in whole seconds, as periods count."""
        return self.time_ms // 1000


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What a call does: values by key, None to remove, and what it tells the trail."""

    writes: dict[bytes, bytes | None]
    events: tuple[Event, ...]


class ContractError(Exception):
    """A call is against the rules: a refused outcome, which the ledger keeps.

    Attributes:
        code: stable, one of ``storage.schema.refusals``.
        field: the argument at fault, such as ``provision.purposes``; empty where there is none.
        detail: the rule in words, without any secret; it stands on the ledger.
        events: what the outcome says.
    """

    def __init__(self, code: str, field: str = "", detail: str = "", events: tuple[Event, ...] = ()) -> None:
        """Refuse; without ``events`` the outcome says field and detail."""
        super().__init__(f"{code} {field} {detail}".strip())
        self.code = code
        self.field = field
        self.detail = detail
        self.events = events or (Refused(field[:DETAIL_CHARACTERS_MAX], detail[:DETAIL_CHARACTERS_MAX]),)
