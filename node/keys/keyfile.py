"""The file that keeps secret keys, a node's and a wallet's alike: readable public keys, sealed secrets.

Secrets are sealed with a key that Argon2id makes of a passphrase, at libsodium's interactive limits, and secretbox.
A test key is written without a passphrase and says so. A checksum tells a damaged file from a wrong passphrase;
it is no protection, the seal is (docs/spec/keyfile.md).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from nacl.utils import random

from node.keys.private_file import PrivateFileError, read_private, write_private
from storage.schema.signatures import public_key_of

SCHEMA = "caretrace.keyfile/1"
TEST_KEY_WARNING = "TEST KEY: its secrets stand here without a passphrase"
SIGNING_KEYS = frozenset({"signing", "organisation", "node", "service"})
SEALING_KEYS = frozenset({"sealing", "encryption"})
_FILE_BYTES_MAX = 16 * 1024
# A file from elsewhere must not make its reader spend gigabytes or minutes on one passphrase.
_OPERATIONS_MAX = 4
_MEMORY_BYTES_MAX = 256 * 1024 * 1024

Kind = Literal["patient", "practitioner", "organisation", "node", "retired"]
KEY_NAMES: dict[Kind, tuple[str, ...]] = {
    "patient": ("signing", "sealing"),
    "practitioner": ("signing", "sealing"),
    "organisation": ("organisation",),
    "node": ("node", "service", "encryption"),
    "retired": ("encryption",),
}
"""Which keys stand in a file, by whose it is."""

_Hex = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{2})+\Z")]
_Salt = Annotated[_Hex, msgspec.Meta(min_length=2 * argon2id.SALTBYTES, max_length=2 * argon2id.SALTBYTES)]
_Box = Annotated[_Hex, msgspec.Meta(min_length=2 * (SecretBox.NONCE_SIZE + SecretBox.MACBYTES))]
_Keys = Annotated[dict[str, _Hex], msgspec.Meta(min_length=1, max_length=8)]


class KeyFileError(Exception):
    """A key file cannot be used; ``code`` says why, and no message ever repeats a secret."""

    code = "keyfile.error"


class KeyFileMissingError(KeyFileError):
    """There is no key file of this name."""

    code = "keyfile.not_found"


class KeyFileExistsError(KeyFileError):
    """The name is taken; a key is never overwritten."""

    code = "keyfile.exists"


class KeyFileDamagedError(KeyFileError):
    """The file is not as it was written."""

    code = "keyfile.damaged"


class KeyFileNotPrivateError(KeyFileError):
    """Other users can read or change the file."""

    code = "keyfile.not_private"


class PassphraseNeededError(KeyFileError):
    """The file is sealed, and no passphrase was given."""

    code = "passphrase.needed"


class WrongPassphraseError(KeyFileError):
    """The passphrase does not open the file."""

    code = "passphrase.wrong"


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kdf: Literal["argon2id"]
    operations: Annotated[int, msgspec.Meta(ge=argon2id.OPSLIMIT_MIN, le=_OPERATIONS_MAX)]
    memory_bytes: Annotated[int, msgspec.Meta(ge=argon2id.MEMLIMIT_MIN, le=_MEMORY_BYTES_MAX)]
    salt: _Salt
    box: _Box


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    schema: Literal["caretrace.keyfile/1"]
    kind: Kind
    public: _Keys
    checksum: _Hex
    sealed: _Sealed | None = None
    warning: str = ""
    secrets: _Keys | None = None


_decode = msgspec.json.Decoder(_Content).decode
_decode_secrets = msgspec.json.Decoder(_Keys).decode


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as read: whose it is and its public keys, before any passphrase."""

    path: Path
    kind: Kind
    public: Mapping[str, bytes]
    _content: _Content

    @property
    def is_sealed(self) -> bool:
        """Whether a passphrase is needed to open it; a test key needs none."""
        return self._content.sealed is not None

    def open_secrets(self, passphrase: bytes | None) -> dict[str, bytes]:
        """Return the secret keys by name, 32 bytes each; a test key ignores the passphrase.

        Raises:
            PassphraseNeededError: the file is sealed and none was given.
            WrongPassphraseError: it does not open the file.
            KeyFileDamagedError: the secrets are not those of the public keys.
        """
        secrets = self._open(passphrase)
        if {name: public_key(name, secret) for name, secret in secrets.items()} != dict(self.public):
            raise KeyFileDamagedError(f"{self.path}: the secrets are not those of its public keys")
        return secrets

    def _open(self, passphrase: bytes | None) -> dict[str, bytes]:
        sealed = self._content.sealed
        if sealed is None:
            assert self._content.secrets is not None
            return _unhex(self._content.secrets)
        if passphrase is None:
            raise PassphraseNeededError(f"{self.path} is sealed with a passphrase")
        box = SecretBox(_derive(passphrase, bytes.fromhex(sealed.salt), sealed.operations, sealed.memory_bytes))
        try:
            plain = box.decrypt(bytes.fromhex(sealed.box))
        except CryptoError:
            raise WrongPassphraseError(f"the passphrase does not open {self.path}") from None
        return _unhex(_decode_secrets(plain))


def new_secrets(kind: Kind) -> dict[str, bytes]:
    """Make fresh secrets: an Ed25519 seed for a signing key, an X25519 secret for a sealing key, each by itself."""
    return {name: random(32) for name in KEY_NAMES[kind]}


def public_key(name: str, secret: bytes) -> bytes:
    """Return the public key of a secret; its name says whether it signs or opens.

    Raises:
        KeyFileDamagedError: no such kind of key, or not 32 bytes.
    """
    if len(secret) != 32 or name not in SIGNING_KEYS | SEALING_KEYS:
        raise KeyFileDamagedError("a key of a kind or size that is not known here")
    return public_key_of(secret) if name in SIGNING_KEYS else bindings.crypto_scalarmult_base(secret)


def create_key_file(path: Path, kind: Kind, secrets: Mapping[str, bytes], passphrase: bytes | None) -> KeyFile:
    """Write a new key file, mode 0600; without a passphrase it is a test key and says so.

    Raises:
        KeyFileExistsError: the name is taken.
    """
    assert set(secrets) == set(KEY_NAMES[kind]), "a file holds the keys of its kind"
    content: dict[str, Any] = {"schema": SCHEMA, "kind": kind}
    if passphrase is None:
        content |= {"warning": TEST_KEY_WARNING, "secrets": _hex(secrets)}
    else:
        content["sealed"] = _seal(secrets, passphrase)
    content["public"] = {name: public_key(name, secret).hex() for name, secret in secrets.items()}
    content["checksum"] = _checksum(content)
    _write(path, (json.dumps(content, indent=1) + "\n").encode())
    return load_key_file(path)


def copy_key_file(source: KeyFile, path: Path) -> KeyFile:
    """Write a copy of a key file, sealed as it is.

    Raises:
        KeyFileExistsError: the name is taken.
    """
    _write(path, source.path.read_bytes())
    return load_key_file(path)


def load_key_file(path: Path) -> KeyFile:
    """Read a key file's public part.

    Raises:
        KeyFileMissingError: there is none.
        KeyFileNotPrivateError: group or others may touch it.
        KeyFileDamagedError: it is not as it was written.
    """
    try:
        data = read_private(path, _FILE_BYTES_MAX)
    except FileNotFoundError:
        raise KeyFileMissingError(f"there is no key file {path}") from None
    except PrivateFileError as error:
        raise KeyFileNotPrivateError(str(error)) from None
    try:
        content = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise KeyFileDamagedError(f"{path} is no key file, or is damaged") from None
    plain = msgspec.to_builtins(content)
    plain.pop("checksum")
    if len(data) > _FILE_BYTES_MAX or _checksum(plain) != content.checksum:
        raise KeyFileDamagedError(f"{path} is damaged: it is not as it was written")
    if set(content.public) != set(KEY_NAMES[content.kind]):
        raise KeyFileDamagedError(f"{path} does not hold the keys of a {content.kind}")
    if (content.sealed is None) == (content.secrets is None):
        raise KeyFileDamagedError(f"{path} holds its secrets neither sealed nor as a test key")
    return KeyFile(path, content.kind, _unhex(content.public), content)


def _seal(secrets: Mapping[str, bytes], passphrase: bytes) -> dict[str, Any]:
    salt = random(argon2id.SALTBYTES)
    operations, memory_bytes = argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE
    box = SecretBox(_derive(passphrase, salt, operations, memory_bytes))
    return {
        "kdf": "argon2id",
        "operations": operations,
        "memory_bytes": memory_bytes,
        "salt": salt.hex(),
        "box": box.encrypt(msgspec.json.encode(_hex(secrets))).hex(),
    }


def _derive(passphrase: bytes, salt: bytes, operations: int, memory_bytes: int) -> bytes:
    return argon2id.kdf(SecretBox.KEY_SIZE, passphrase, salt, operations, memory_bytes)


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _hex(keys: Mapping[str, bytes]) -> dict[str, str]:
    return {name: key.hex() for name, key in keys.items()}


def _unhex(keys: Mapping[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(key) for name, key in keys.items()}


def _write(path: Path, data: bytes) -> None:
    try:
        write_private(path, data, replace=False)
    except FileExistsError:
        raise KeyFileExistsError(f"{path} exists; a key is never overwritten") from None
