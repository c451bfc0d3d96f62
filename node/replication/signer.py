"""Signs and checks votes with the node keys of an epoch's validators."""

from storage.schema.signatures import SignatureError, sign, verify_signature
from storage.schema.validators import ValidatorSet


class NodeSigner:
    """This member's voting key, and the others' public ones."""

    def __init__(self, node_seed: bytes, validators: ValidatorSet) -> None:
        """Sign with the 32-byte seed of this member's node key."""
        self._seed = node_seed
        self._keys = [validator.node_key for validator in validators.validators]

    def sign(self, preimage: bytes) -> bytes:
        """Sign a preimage; 64 bytes."""
        return sign(self._seed, preimage)

    def verify(self, position: int, preimage: bytes, signature: bytes) -> bool:
        """Tell whether the validator at a position signed a preimage; a position outside the set did not."""
        if not 0 <= position < len(self._keys):
            return False
        try:
            verify_signature(self._keys[position], preimage, signature)
        except SignatureError:
            return False
        return True
