"""Identifiers as people read them (docs/spec/encoding.md, Identifiers)."""

from typing import Any

from vector_primitives import BASE58, derived_id, did, named_bytes, typed_id
from vector_transactions import EXCLUDE, GRANT, PATIENT, REGISTER_RECORD, REQUEST

LETTERS = {"consent": "c", "exclusion": "x", "record": "r", "access": "a"}


def identifiers() -> dict[str, Any]:
    raw = derived_id(REGISTER_RECORD.id, 0)
    good = typed_id("r", raw)
    made_by = [("c", GRANT), ("r", REGISTER_RECORD), ("a", REQUEST), ("x", EXCLUDE)]
    typed = [(letter, derived_id(made.id, 0)) for letter, made in made_by] + [("r", bytes(32)), ("r", b"\xff" * 32)]
    return {
        "letters": LETTERS,
        "derived": [
            {"transaction": made.id.hex(), "index": index, "id": derived_id(made.id, index).hex()}
            for made in (GRANT, REGISTER_RECORD)
            for index in (0, 1, 255, 65536)
        ],
        "typed": [{"letter": letter, "id": value.hex(), "text": typed_id(letter, value)} for letter, value in typed],
        "typed_refused": [
            {"letter": "r", "why": why, "text": text}
            for why, text in [
                ("another kind", typed_id("c", raw)),
                ("in capitals", good.upper()),
                ("digits in capitals", "r-" + good[2:].upper()),
                ("a digit missing", good[:-1]),
                ("a digit too many", good + "a"),
                ("padded", good + "===="),
                ("bits after the last whole byte", good[:-1] + following(good[-1])),
                ("no dash", good.replace("-", "")),
                ("31 bytes", typed_id("r", raw[:31])),
                ("33 bytes", typed_id("r", raw + b"\x00")),
                ("a digit outside the alphabet", good[:-1] + "1"),
                ("other letters that look alike", good[:-1] + "\u0430"),
                ("a space before", " " + good),
                ("a line feed after", good + "\n"),
                ("nothing", ""),
                ("only its letter", "r-"),
            ]
        ],
        "dids": [
            {"key": key.hex(), "text": did(key)}
            for key in (PATIENT.public, bytes(32), b"\xff" * 32, b"\x00" + named_bytes("zero first", 31))
        ],
        "dids_refused": [
            {"why": why, "text": text}
            for why, text in [
                ("another method", did(PATIENT.public).replace("did:key", "did:web")),
                ("no multibase letter", did(PATIENT.public).replace("did:key:z", "did:key:")),
                ("another multibase", did(PATIENT.public).replace("did:key:z", "did:key:f")),
                ("a digit missing", did(PATIENT.public)[:-1]),
                ("a digit too many", did(PATIENT.public) + "1"),
                ("a leading zero digit", did(PATIENT.public).replace("did:key:z", "did:key:z1")),
                ("a digit outside the alphabet", did(PATIENT.public)[:-1] + "0"),
                ("an X25519 key", "did:key:z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW"),
                ("a fragment", did(PATIENT.public) + "#key-1"),
                ("a space after", did(PATIENT.public) + " "),
                ("nothing", ""),
                ("ten thousand digits", "did:key:z" + BASE58[-1] * 10_000),
            ]
        ],
    }


def following(letter: str) -> str:
    """The next digit of base32: the same bytes but for the bits that are dropped."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    return alphabet[alphabet.index(letter) + 1]
