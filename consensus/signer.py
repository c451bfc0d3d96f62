"""How an engine signs and checks what validators say, handed in by its host."""

from typing import Protocol


class Signer(Protocol):
    """Signs and checks votes; deterministic, handed in by the host."""

    def sign(self, preimage: bytes) -> bytes:
        """Sign with this replica's node key; 64 bytes."""
        ...

    def verify(self, position: int, preimage: bytes, signature: bytes) -> bool:
        """Tell whether the validator at this position of the set signed the preimage."""
        ...
