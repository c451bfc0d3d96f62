"""Bytes that must be refused, and why (docs/spec/encoding.md): none of them is the one encoding of a value.

Each case changes one thing of something that is accepted.
"""

from typing import Any, NamedTuple

import vector_blocks as blocks
import vector_transactions as tx
from vector_primitives import named_bytes, pack

MALFORMED, TOO_LARGE = "bytes.malformed", "bytes.too_large"
VERSION, CHAIN_ID, NONCE, NOT_AFTER, PAYER, SIGNERS, METHOD, ARGUMENTS = range(8)
EFFECT, PERIOD, PRACTITIONERS, MEMBERS, ROLES, ACTIONS, PURPOSES, CATEGORIES, TAGS, RECORDS, YEARS, BELOW = range(12)
GOOD = tx.REQUEST
NIL, FALSE, TRUE = b"\xc0", b"\xc2", b"\xc3"
A_KEY = named_bytes("a key")


class Refused(NamedTuple):
    """Bytes, what they pretend to be, and the code of their refusal."""

    form: str
    why: str
    data: bytes
    code: str = MALFORMED


def array(items: list[bytes], head: bytes = b"") -> bytes:
    return (head or bytes([0x90 | len(items)])) + b"".join(items)


def envelope(body: bytes, signatures: bytes = pack(GOOD.signatures)) -> bytes:
    return array([pack(body), signatures])


def body(index: int, item: bytes, fields: list[Any] = GOOD.fields) -> bytes:
    """A good body with one field's bytes replaced."""
    items = [pack(field) for field in fields]
    items[index] = item
    return array(items)


def with_field(why: str, index: int, item: bytes, code: str = MALFORMED) -> Refused:
    return Refused("envelope", why, envelope(body(index, item)), code)


def with_arguments(why: str, made: tx.Made, arguments: bytes, code: str = MALFORMED) -> Refused:
    return Refused("envelope", why, envelope(body(ARGUMENTS, arguments, made.fields)), code)


def with_provision(why: str, index: int, value: Any) -> Refused:
    changed = tx.provision("permit")
    changed[index] = value
    return with_arguments(why, tx.GRANT, pack([changed, None]))


def numbers() -> list[Refused]:
    not_after = tx.NOT_AFTER_S.to_bytes(8, "big")
    return [
        with_field("0 as uint8", VERSION, b"\xcc\x00"),
        with_field("0 as uint16", VERSION, b"\xcd\x00\x00"),
        with_field("0 as uint32", VERSION, b"\xce" + bytes(4)),
        with_field("0 as uint64", VERSION, b"\xcf" + bytes(8)),
        with_field("0 as int8", VERSION, b"\xd0\x00"),
        with_field("0 as int64", VERSION, b"\xd3" + bytes(8)),
        with_field("a time as uint64 that fits 32 bits", NOT_AFTER, b"\xcf" + not_after),
        with_field("a time as int64", NOT_AFTER, b"\xd3" + not_after),
        with_field("a time as float64", NOT_AFTER, pack(float(tx.NOT_AFTER_S))),
        with_field("0 as float32", VERSION, b"\xca" + bytes(4)),
        with_field("not a number", NOT_AFTER, pack(float("nan"))),
        with_field("negative zero", VERSION, pack(-0.0)),
        with_field("a negative number", NOT_AFTER, pack(-1)),
        with_field("2^63, over the largest integer", NOT_AFTER, pack(2**63)),
        with_field("a number as text", NOT_AFTER, pack(str(tx.NOT_AFTER_S))),
        with_field("false for 0", VERSION, FALSE),
        with_field("nil for 0", VERSION, NIL),
        with_arguments("1 for true", tx.EXCLUDE, pack([tx.EXCLUDE.arguments[0], 1])),
        with_arguments("nil for false", tx.EXCLUDE, pack([tx.EXCLUDE.arguments[0], None])),
    ]


def lengths_and_kinds() -> list[Refused]:
    nonce, chain_id = GOOD.fields[NONCE], GOOD.fields[CHAIN_ID]
    signatures, signers = pack(GOOD.signatures), pack(GOOD.fields[SIGNERS])
    size = len(GOOD.body).to_bytes(4, "big")
    body_16, body_32 = b"\xc5" + size[2:] + GOOD.body, b"\xc6" + size + GOOD.body
    elements = [pack(GOOD.body), signatures]
    return [
        Refused("envelope", "the body's length in 16 bits", array([body_16, signatures])),
        Refused("envelope", "the body's length in 32 bits", array([body_32, signatures])),
        Refused("envelope", "the array's length in 16 bits", array(elements, b"\xdc\x00\x02")),
        Refused("envelope", "the array's length in 32 bits", array(elements, b"\xdd\x00\x00\x00\x02")),
        with_field("the nonce's length in 16 bits", NONCE, b"\xc5\x00\x10" + nonce),
        with_field("the signers' count in 16 bits", SIGNERS, b"\xdc\x00\x01" + signers[1:]),
        with_field("a short text with its length in 8 bits", PAYER, b"\xd9\x05south"),
        with_field("a short text with its length in 32 bits", PAYER, b"\xdb\x00\x00\x00\x05south"),
        with_field("text for bytes", NONCE, pack("nonce of sixteen")),
        with_field("bytes for text", PAYER, pack(b"south")),
        with_field("an extension for bytes", NONCE, b"\xd8\x00" + nonce),
        with_field("a timestamp for a time", NOT_AFTER, b"\xd6\xff" + tx.NOT_AFTER_S.to_bytes(4, "big")),
        with_field("the byte that is never used", VERSION, b"\xc1"),
        with_field("an array for a number", VERSION, b"\x90"),
        with_field("text that is not UTF-8", METHOD, b"\xa2\xff\xfe"),
        with_field("an overlong NUL", METHOD, b"\xa2\xc0\x80"),
        with_field("half of a surrogate pair", METHOD, b"\xa3\xed\xa0\x80"),
        with_field("a chain id of 31 bytes", CHAIN_ID, pack(chain_id[:31])),
        with_field("a chain id of 33 bytes", CHAIN_ID, pack(chain_id + b"\x00")),
        with_field("a nonce of 15 bytes", NONCE, pack(nonce[:15])),
        with_field("a nonce of 17 bytes", NONCE, pack(nonce + b"\x00")),
        with_field("a signer of 31 bytes", SIGNERS, pack([A_KEY[:31]])),
        Refused("envelope", "a signature of 63 bytes", envelope(GOOD.body, pack([GOOD.signatures[0][:63]]))),
        Refused("envelope", "a signature of 65 bytes", envelope(GOOD.body, pack([GOOD.signatures[0] + b"\x00"]))),
    ]


def shapes() -> list[Refused]:
    items = [pack(field) for field in GOOD.fields]
    signatures = pack(GOOD.signatures)
    as_map = b"\x88" + b"".join(pack(index) + item for index, item in enumerate(items))
    record, purpose = (pack(argument) for argument in GOOD.arguments)
    long_length = b"\xc5\x00\x20" + record[2:]
    twice = b"\x83" + b"\x00" + record + b"\x01" + purpose + b"\x01" + pack("HRESCH")
    return [
        Refused("envelope", "nothing", b""),
        Refused("envelope", "a byte after the envelope", GOOD.envelope + b"\x00"),
        Refused("envelope", "the envelope twice", GOOD.envelope * 2),
        Refused("envelope", "the last byte missing", GOOD.envelope[:-1]),
        Refused("envelope", "a byte after the body", envelope(GOOD.body + b"\x00")),
        Refused("envelope", "an element too many in the envelope", array([pack(GOOD.body), signatures, NIL])),
        Refused("envelope", "an element too few in the envelope", array([pack(GOOD.body)])),
        Refused("envelope", "the body not wrapped in bytes", array([GOOD.body, signatures])),
        Refused("envelope", "a map for the envelope", b"\x82\x00" + pack(GOOD.body) + b"\x01" + signatures),
        Refused("envelope", "an element too many in the body", envelope(array([*items, NIL]))),
        Refused("envelope", "an element too few in the body", envelope(array(items[:-1]))),
        Refused("envelope", "a map for the body", envelope(as_map)),
        with_arguments("an argument too many", GOOD, array([record, purpose, NIL])),
        with_arguments("an argument too few", GOOD, array([record])),
        with_arguments("a map for the arguments", GOOD, b"\x82\x00" + record + b"\x01" + purpose),
        with_arguments("a map with a key twice for the arguments", GOOD, twice),
        with_arguments("arguments of another method", GOOD, pack(tx.SERVED.arguments)),
        with_arguments("a length in 16 bits inside the arguments", GOOD, array([long_length, purpose])),
        with_arguments("arguments nested 1,000 deep", GOOD, b"\x91" * 1000 + b"\x90"),
        with_arguments("maps nested 1,000 deep", GOOD, b"\x81\x00" * 1000 + NIL),
        with_arguments("4,294,967,295 arguments declared", GOOD, b"\xdd\xff\xff\xff\xff"),
        with_field("4,294,967,295 signers declared", SIGNERS, b"\xdd\xff\xff\xff\xff"),
        with_field("4,294,967,295 bytes declared", NONCE, b"\xc6\xff\xff\xff\xff" + bytes(16)),
        with_field("a text of 4,294,967,295 bytes declared", METHOD, b"\xdb\xff\xff\xff\xffx"),
    ]


def values() -> list[Refused]:
    five = [named_bytes(f"signer {number}") for number in range(5)]
    two_signatures = pack(GOOD.signatures * 2)
    twice = body(SIGNERS, pack(GOOD.fields[SIGNERS] * 2))
    registering, of_record = tx.REGISTER_RECORD, tx.REGISTER_RECORD.arguments
    return [
        with_field("a version of tomorrow", VERSION, b"\x01", "tx.version"),
        with_field("an unknown method", METHOD, pack("consent.give"), "tx.method_unknown"),
        with_field("no method", METHOD, pack(""), "tx.method_unknown"),
        with_field("a method's name of 65 characters", METHOD, pack("m" * 65)),
        with_field("no signers", SIGNERS, b"\x90"),
        Refused("envelope", "five signers", envelope(body(SIGNERS, pack(five)), pack(GOOD.signatures * 5))),
        Refused("envelope", "a signer twice", envelope(twice, two_signatures), "tx.signers"),
        Refused("envelope", "a signature too many", envelope(GOOD.body, two_signatures), "tx.signers"),
        with_field("a signature too few", SIGNERS, pack([*GOOD.fields[SIGNERS], A_KEY]), "tx.signers"),
        Refused("envelope", "no signatures", envelope(GOOD.body, b"\x90")),
        with_field("a member's name in capitals", PAYER, pack("South")),
        with_field("a member's name that is empty", PAYER, pack("")),
        with_field("a member's name of 33 characters", PAYER, pack("s" * 33)),
        with_field("a member's name with a line feed", PAYER, pack("south\n")),
        with_field("a member's name that starts with a digit", PAYER, pack("1south")),
        with_field("a member's name in other letters", PAYER, pack("s\u043euth")),
        with_arguments("a purpose with a space", GOOD, pack([tx.RECORD, "TREAT now"])),
        with_arguments("an empty purpose", GOOD, pack([tx.RECORD, ""])),
        with_arguments("a pointer of no bytes", registering, pack([*of_record[:5], b""])),
        with_arguments("a pointer of 1,025 bytes", registering, pack([*of_record[:5], bytes(1025)])),
        with_arguments("17 tags", registering, pack([*of_record[:2], [tx.LABEL] * 17, *of_record[3:]])),
        with_provision("an effect that is neither", EFFECT, "allow"),
        with_provision("a period of one end", PERIOD, [0]),
        with_provision("a negative year", YEARS, [-1, None]),
        with_provision("65 purposes", PURPOSES, ["TREAT"] * 65),
        with_provision("a tag of 15 bytes", TAGS, [tx.LABEL[:15]]),
        with_provision("a role of no member", ROLES, ["physician"]),
        with_provision("a provision four levels deep", BELOW, [nested(3)]),
        with_provision("a provision 400 levels deep", BELOW, [nested(399)]),
        with_field("arguments over their limit", ARGUMENTS, pack([bytes(12 * 1024), "TREAT"]), TOO_LARGE),
        Refused("envelope", "a body over its limit", envelope(bytes(12 * 1024 + 513)), MALFORMED),
        Refused("envelope", "an envelope over its limit", envelope(bytes(13 * 1024)), TOO_LARGE),
    ]


def nested(levels: int) -> list[Any]:
    value = tx.provision("deny")
    for _ in range(levels - 1):
        value = tx.provision("deny", provisions=[value])
    return value


def of_blocks() -> list[Refused]:
    header: list[Any]
    header, outcome = list(blocks.HEADER_FIELDS.values()), blocks.OUTCOMES[0]
    epoch_to_result, positions, signatures = blocks.COMMITTED[:5], blocks.COMMITTED[5], blocks.COMMITTED[6]
    return [
        Refused("header", "a byte after the header", blocks.HEADER + b"\x00"),
        Refused("header", "a field too many", pack([*header, 0])),
        Refused("header", "a field too few", pack(header[:-1])),
        Refused("header", "a time as float", pack([*header[:6], float(header[6]), *header[7:]])),
        Refused("header", "a parent of 31 bytes", pack([*header[:4], bytes(31), *header[5:]])),
        Refused("header", "over its limit", blocks.HEADER + bytes(1024), TOO_LARGE),
        Refused("outcome", "an unknown source", pack(["clock", *outcome[1:]])),
        Refused("outcome", "a code in capitals", pack([*outcome[:2], "OK", outcome[3]])),
        Refused("outcome", "an empty code", pack([*outcome[:2], "", outcome[3]])),
        Refused("outcome", "an unknown event", pack([*outcome[:3], [["patient.discharged", A_KEY]]])),
        Refused("outcome", "an event without its kind", pack([*outcome[:3], [[A_KEY, "south"]]])),
        Refused("outcome", "an event of no elements", pack([*outcome[:3], [[]]])),
        Refused("outcome", "an event with an element too many", pack([*outcome[:3], [[*outcome[3][0], 0]]])),
        Refused("outcome", "an event with an element too few", pack([*outcome[:3], [outcome[3][0][:-1]]])),
        Refused(
            "outcome", "4,294,967,295 events declared", pack(outcome[:3])[1:].join([b"\x94", b"\xdd\xff\xff\xff\xff"])
        ),
        Refused("outcome", "a detail of 257 characters", pack([*outcome[:3], [["refused", "", "x" * 257]]])),
        Refused("certificate", "129 signers", pack([*epoch_to_result, list(range(129)), signatures])),
        Refused("certificate", "a signer below zero", pack([*epoch_to_result, [-1, *positions[1:]], signatures])),
        Refused("certificate", "a signature of 63 bytes", pack([*epoch_to_result, positions, [bytes(63)] * 3])),
        Refused("certificate", "a bit field of signers", pack([*epoch_to_result, 0b1110, signatures])),
        Refused("certificate", "a byte after the certificate", pack(blocks.COMMITTED) + b"\xc0"),
        Refused("receipt", "a byte after the receipt", blocks.receipt(GOOD) + b"\x00"),
        Refused("receipt", "the last byte missing", blocks.receipt(GOOD)[:-1]),
        Refused("receipt", "an envelope in place of a receipt", GOOD.envelope),
    ]


def malformed() -> list[dict[str, str]]:
    refused = [*numbers(), *lengths_and_kinds(), *shapes(), *values(), *of_blocks()]
    return [{"form": case.form, "why": case.why, "bytes": case.data.hex(), "code": case.code} for case in refused]
