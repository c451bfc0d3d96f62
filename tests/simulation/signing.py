"""Signers for simulated replicas: real Ed25519, or a fast stand-in that binds key and message as well."""

from hashlib import blake2b, sha256

from storage.schema.signatures import SignatureError, public_key_of, sign, verify_signature
from storage.schema.validators import Validator, ValidatorSet


def seed_of(name: str) -> bytes:
    return sha256(f"node key of {name}".encode()).digest()


def fake_signature(seed: bytes, preimage: bytes) -> bytes:
    return blake2b(preimage, key=seed, digest_size=64).digest()


class FakeSigner:
    """Nobody without the seed can make a signature, or use one for another message; checking needs all seeds."""

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        self._seed = seed_of(name)
        self._seeds = [seed_of(member) for member in names]

    def sign(self, preimage: bytes) -> bytes:
        return fake_signature(self._seed, preimage)

    def verify(self, position: int, preimage: bytes, signature: bytes) -> bool:
        return fake_signature(self._seeds[position], preimage) == signature


class RealSigner:
    """The chain's own signatures."""

    def __init__(self, name: str, names: tuple[str, ...]) -> None:
        self._seed = seed_of(name)
        self._keys = [public_key_of(seed_of(member)) for member in names]

    def sign(self, preimage: bytes) -> bytes:
        return sign(self._seed, preimage)

    def verify(self, position: int, preimage: bytes, signature: bytes) -> bool:
        try:
            verify_signature(self._keys[position], preimage, signature)
        except SignatureError:
            return False
        return True


def validator_set(names: tuple[str, ...]) -> ValidatorSet:
    return ValidatorSet(0, "pbft", tuple(Validator(name, public_key_of(seed_of(name))) for name in names))
