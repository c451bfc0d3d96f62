"""What a consent says, from the options of a command: whom, for what, which records, how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

import click
import msgspec

from cli.client import Hex
from cli.errors import CliError, Exit, usage_error
from cli.session import Session
from cli.times import END, MOMENT
from storage.schema.calls import Period, Provision
from storage.schema.codec import parse_typed_id
from storage.schema.codes import CATEGORIES, PURPOSES, ROLES, SENSITIVITIES, category_of

_ALWAYS = Period(None, None)


class _Label(msgspec.Struct):
    tag: Hex


@dataclass(frozen=True)
class Wanted:
    """The options of one consent or exclusion."""

    to: tuple[str, ...]
    purposes: tuple[str, ...]
    categories: tuple[str, ...]
    excepted: tuple[str, ...]
    records: tuple[str, ...]
    from_s: int | None
    until_s: int | None


def wanted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what its options say of a consent, as ``stated``."""

    @wraps(function)
    def with_wanted(
        *positional: Any,
        to: tuple[str, ...],
        purposes: tuple[str, ...],
        categories: tuple[str, ...],
        excepted: tuple[str, ...],
        records: tuple[str, ...],
        from_s: int | None,
        until_s: int | None,
        **values: Any,
    ) -> Any:
        stated = Wanted(to, purposes, categories, excepted, records, from_s, until_s)
        return function(*positional, stated=stated, **values)

    command: Callable[..., Any] = with_wanted
    for option in (
        click.option("--until", "until_s", type=END, help="Until when: a time, a day's end, or 90d, 48h from now."),
        click.option("--from", "from_s", type=MOMENT, help="From when on."),
        click.option("--record", "records", metavar="RECORD", multiple=True, help="Only these records."),
        click.option("--except", "excepted", metavar="CODE", multiple=True, help="Not this sensitivity or category."),
        click.option("--category", "categories", metavar="CODE", multiple=True, help="Only these categories."),
        click.option("--purpose", "purposes", metavar="CODE", multiple=True, help="Purpose of use, such as TREAT."),
        click.option(
            "--to", metavar="WHO", multiple=True, help="A practitioner, a member, or a role at one: south/physician."
        ),
    ):
        command = option(command)
    return command


def provision_of(session: Session, patient: str, effect: Literal["permit", "deny"], options: Wanted) -> Provision:
    """Return the provision that the options state; ``patient`` is the DID, as text, of who states it.

    Raises:
        CliError: a code, name or record that is not known, or an end before the start.
    """
    if options.from_s is not None and options.until_s is not None and options.until_s < options.from_s:
        raise usage_error("--until lies before --from")
    practitioners, members, roles = _actors(session, options.to)
    categories = tuple(map(category, options.categories))
    exceptions = _exceptions(session, patient, options.excepted)
    if exceptions and effect == "deny":
        raise usage_error("an exclusion has no --except: it would let something in", "grant that to somebody instead")
    return Provision(
        effect=effect,
        period=Period(options.from_s, options.until_s),
        practitioners=practitioners,
        members=members,
        roles=roles,
        actions=("read",),
        purposes=tuple(map(purpose, options.purposes)),
        categories=categories,
        tags=(),
        records=tuple(parse_typed_id("r", session.resolve("r", record)) for record in options.records),
        years=_ALWAYS,
        provisions=exceptions,
    )


def category(code: str) -> str:
    """Return the category of a name, a FHIR or LOINC code, or a FHIR resource type.

    Raises:
        CliError: none has this code.
    """
    name = category_of(code)
    if name is None:
        hint = f"one of {', '.join(CATEGORIES)}"
        raise CliError("category.unknown", f"no category is called {code}", exit_code=Exit.USAGE, hint=hint)
    return name


def purpose(code: str) -> str:
    """Check a purpose of use.

    Raises:
        CliError: HL7 has none with this code.
    """
    if code not in PURPOSES:
        hint = "a code of HL7's PurposeOfUse, in capitals: TREAT, HPAYMT, HRESCH, PUBHLTH ..."
        raise CliError("purpose.unknown", f"no purpose of use is called {code}", exit_code=Exit.USAGE, hint=hint)
    return code


def sensitivity(code: str) -> str:
    """Check a sensitivity.

    Raises:
        CliError: HL7 has none with this code.
    """
    if code not in SENSITIVITIES:
        hint = f"one of {', '.join(SENSITIVITIES)}"
        raise CliError("sensitivity.unknown", f"no sensitivity is called {code}", exit_code=Exit.USAGE, hint=hint)
    return code


def _actors(session: Session, names: Sequence[str]) -> tuple[tuple[bytes, ...], tuple[str, ...], tuple[str, ...]]:
    practitioners, members, roles = [], [], []
    for name in names:
        member, slash, role = name.partition("/")
        is_member = session.genesis.member(member) is not None
        is_person = session.wallet.knows(name, session.status.member)
        if slash:
            if not is_member or role not in ROLES:
                raise usage_error(f"{name} is no role at a member", f"MEMBER/ROLE, with one of {', '.join(ROLES)}")
            roles.append(name)
        elif is_member and is_person:
            raise usage_error(f"{name} is a member and somebody in the wallet", "give the person's DID, or rename them")
        elif is_member:
            members.append(name)
        else:
            practitioners.append(session.wallet.did(name, session.status.member))
    return tuple(practitioners), tuple(members), tuple(roles)


def _exceptions(session: Session, patient: str, codes: Sequence[str]) -> tuple[Provision, ...]:
    names = tuple(name for code in codes if (name := category_of(code)))
    labels = tuple(sensitivity(code) for code in codes if category_of(code) is None)
    exceptions = []
    if names:
        exceptions.append(_denial(categories=names))
    if labels:
        exceptions.append(_denial(tags=_tags(session, patient, labels)))
    return tuple(exceptions)


def _denial(*, categories: tuple[str, ...] = (), tags: tuple[bytes, ...] = ()) -> Provision:
    return Provision("deny", _ALWAYS, (), (), (), (), (), categories, tags, (), _ALWAYS, ())


def _tags(session: Session, patient: str, labels: Sequence[str]) -> tuple[bytes, ...]:
    # A tag is known by the member that keeps the records. Another's would match nothing, and except nothing.
    sponsor = session.member_of(patient)
    if sponsor != session.status.member:
        asked = session.status.member
        raise usage_error(f"only the node of {sponsor} knows its labels; this is that of {asked}", f"ask {sponsor}'s")
    found = [session.node.get("/v1/labels", _Label, patient=patient, sensitivity=label).tag for label in labels]
    return tuple(bytes.fromhex(tag) for tag in found)
