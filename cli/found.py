"""``caretrace found``: founders make a network of their cards, and each signs it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from cli.command import Noun
from cli.errors import CliError, usage_error
from cli.founding import Draft, draft_genesis, load_draft, save_draft, sign_draft
from cli.home import load_card
from cli.options import FILE, passphrase
from cli.output import Answer, facts, table
from cli.passphrase import Passphrases
from cli.place import home_of
from cli.wallet import organisation_key
from node.keys.private_file import write_private
from storage.schema.genesis import Parameters

DRAFT = Path("genesis.draft.json")


class _Found(Noun):
    """``found CARD...`` makes the draft; ``found sign`` signs it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["draft", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Found)
def found() -> None:
    """Found a network of its members' cards; each founder signs."""


@found.command(
    "draft",
    schema="caretrace.found/1",
    example="caretrace found draft north/card.json east/card.json south/card.json west/card.json",
)
@click.argument("cards", metavar="CARD...", nargs=-1, required=True, type=FILE)
@click.option("--network", default="caretrace", show_default=True, help="The network's name.")
@click.option("--parameter", "changes", metavar="NAME=NUMBER", multiple=True, help="Change a limit of the network.")
@click.option("--out", metavar="FILE", type=FILE, default=DRAFT, show_default=True, help="Where to write the draft.")
def draft(cards: tuple[Path, ...], network: str, changes: tuple[str, ...], out: Path) -> Answer:
    """Write the draft of a genesis file, from the founders' cards.

    The word `draft` may be left out: caretrace found CARD...
    """
    made = draft_genesis(network, [load_card(path) for path in cards], _parameters(changes))
    try:
        write_private(out, made.render(), replace=False)
    except FileExistsError:
        raise CliError("draft.exists", f"{out} exists", hint="sign it, or remove it, or --out FILE") from None
    return _answer(made, out, "Each founder now signs: caretrace found sign, with this file and its organisation key.")


@found.command("sign", example="caretrace found sign genesis.draft.json --organisation-key north-organisation.key")
@click.argument("draft_file", metavar="[DRAFT]", type=FILE, default=DRAFT)
@click.option(
    "--organisation-key", "--key", "key_file", metavar="FILE", type=FILE, required=True, help="Your organisation's key."
)
@click.option("--card", metavar="FILE", type=FILE, help="Your card, to compare.  [the home's, if there is one]")
@passphrase
def sign(draft_file: Path, key_file: Path, card: Path | None, passphrases: Passphrases) -> Answer:
    """Sign a draft as a founder, if what it states of you is true.

    It is compared with your card. The last signature makes genesis.json of the draft.
    """
    before = load_draft(draft_file)
    key = organisation_key(key_file)
    seed = passphrases.open(key.file, key.name)["organisation"]
    signed, name = sign_draft(before, seed, key.did)
    _compare(signed, name, card)
    place = save_draft(signed, draft_file)
    after = "All have signed. Put genesis.json into each home, then: caretrace start"
    return _answer(signed, place, "Pass it on to those who are missing." if signed.missing else after)


def _compare(draft: Draft, name: str, card: Path | None) -> None:
    own = card or home_of(None).card_file
    if card is None and not own.exists():
        return
    mine = load_card(own).member()
    if card is None and mine.name != name:
        return
    if mine != draft.genesis.member(name):
        raise CliError("founding.card_differs", f"the draft states {name} otherwise than {own}; it is not signed")


def _parameters(changes: Sequence[str]) -> Parameters:
    known = asdict(Parameters())
    wanted: dict[str, Any] = {}
    for change in changes:
        name, _, number = change.partition("=")
        if name not in known or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise usage_error(f"{change!r} is not NAME=NUMBER with one of {', '.join(sorted(known))}")
        wanted[name] = int(number)
    return replace(Parameters(), **wanted)


def _answer(draft: Draft, place: Path, advice: str) -> Answer:
    body = draft.genesis.body
    fields = {
        "network": body.name,
        "chain_id": draft.genesis.chain_id.hex(),
        "file": str(place),
        "signed": sorted(draft.signatures),
        "missing": draft.missing,
    }
    rows = [[m.name, m.roles, m.organisation_key.hex()[:16], m.addresses] for m in body.members]
    members = table(["MEMBER", "ROLE", "ORGANISATION KEY", "ADDRESSES"], rows, "")
    return Answer(fields, f"{facts(fields.items())}\n\n{members}\n\n{advice}")
