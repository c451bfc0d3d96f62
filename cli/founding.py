"""How a network begins: a draft of the genesis file, which becomes the file itself when every founder has signed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CliError
from cli.home import Card
from node.keys.private_file import write_private
from storage.schema.genesis import (
    GENESIS_BYTES_MAX,
    Genesis,
    GenesisError,
    Parameters,
    check_body,
    encode_body,
    founding_preimage,
    render_file,
)
from storage.schema.signatures import SignatureError, sign, verify_signature
from storage.schema.validators import VALIDATORS_MIN


@dataclass(frozen=True, slots=True)
class Draft:
    """A genesis body that founders are signing; the signatures so far verify."""

    body: bytes
    genesis: Genesis
    signatures: Mapping[str, bytes]

    @property
    def missing(self) -> list[str]:
        """The founders who have not signed yet."""
        return [member.name for member in self.genesis.body.members if member.name not in self.signatures]

    def render(self) -> bytes:
        """Return the draft as a file; once nobody is missing it is the genesis file."""
        return render_file(self.body, self.signatures)


def draft_genesis(network: str, cards: Sequence[Card], parameters: Parameters) -> Draft:
    """Write down what the founders are to sign.

    Raises:
        CliError: too few of them would vote.
        GenesisError: names or keys stand in two cards, or a key is not sound.
    """
    voters = sum("validator" in card.roles for card in cards)
    if voters < VALIDATORS_MIN:
        raise CliError("founding.too_few", f"{voters} validators; Byzantine agreement takes at least {VALIDATORS_MIN}")
    body = encode_body(network, parameters, tuple(card.member() for card in cards))
    return Draft(body, check_body(body), {})


def sign_draft(draft: Draft, seed: bytes, public_key: bytes) -> tuple[Draft, str]:
    """Add the signature of the founder whose organisation key this is; returns the founder's name too.

    Raises:
        CliError: no founder has this key.
    """
    for member in draft.genesis.body.members:
        if member.organisation_key == public_key:
            signature = sign(seed, founding_preimage(draft.genesis.chain_id))
            return Draft(draft.body, draft.genesis, {**draft.signatures, member.name: signature}), member.name
    raise CliError("founding.no_founder", "this organisation key belongs to none of the founders in the draft")


def load_draft(path: Path) -> Draft:
    """Read a draft and check the signatures that it has.

    Raises:
        GenesisError: it is damaged, or a signature does not verify.
    """
    with path.open("rb") as file:
        data = file.read(GENESIS_BYTES_MAX + 1)
    try:
        content = json.loads(data)
        body = bytes.fromhex(content["body"])
        signatures = {str(name): bytes.fromhex(value) for name, value in content["signatures"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise GenesisError(f"{path} is no draft of a genesis file") from None
    genesis = check_body(body)
    draft = Draft(body, genesis, signatures)
    # What stands there readably must be what is signed: founders read the one and sign the other.
    if draft.render() != data:
        raise GenesisError(f"{path}: what it says readably is not what would be signed")
    for name, signature in signatures.items():
        _check_signature(genesis, name, signature)
    return draft


def _check_signature(genesis: Genesis, name: str, signature: bytes) -> None:
    member = genesis.member(name)
    if member is None:
        raise GenesisError(f"{name} has signed and is no founder")
    try:
        verify_signature(member.organisation_key, founding_preimage(genesis.chain_id), signature)
    except SignatureError:
        raise GenesisError(f"the signature of {name} does not verify") from None


def save_draft(draft: Draft, path: Path) -> Path:
    """Keep a draft where it was; when it is complete, as ``genesis.json`` beside it, and the draft goes.

    Raises:
        CliError: another genesis file stands there.
    """
    if draft.missing:
        write_private(path, draft.render(), replace=True)
        return path
    genesis = path.with_name("genesis.json")
    try:
        write_private(genesis, draft.render(), replace=False)
    except FileExistsError:
        raise CliError("genesis.exists", f"{genesis} exists; it is never overwritten") from None
    path.unlink()
    return genesis
