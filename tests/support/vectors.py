"""The golden vectors, and a network like theirs to make other things with."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from storage.schema.genesis import Genesis, load_file

FOLDER = Path(__file__).resolve().parents[1] / "vectors"


@cache
def vectors(name: str) -> Any:
    """The content of a vector file; read it, never change it."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="ascii"))


@cache
def vector_bytes(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@cache
def vector_genesis() -> Genesis:
    return load_file(vector_bytes("genesis.json"))


def seed_of(name: str) -> bytes:
    """The seed of a signing key of the vectors, such as "north/node"."""
    return bytes.fromhex(next(key["seed"] for key in vectors("keys")["signing"] if key["name"] == name))


def shown(value: Any) -> Any:
    """A decoded value as the vectors show it: bytes as 0x and hexadecimal digits."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return [shown(item) for item in value] if isinstance(value, list) else value


def from_shown(value: Any) -> Any:
    """The value that a vector shows."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    return [from_shown(item) for item in value] if isinstance(value, list) else value
