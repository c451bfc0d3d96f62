"""How arguments are read and answers written: identifiers, people, JSON."""

from typing import Any

import msgspec
from starlette.responses import Response

from node.api.problems import ProblemError
from node.keys.did import DidError, parse_did
from storage.schema.codec import DecodeError, parse_typed_id

MSGPACK = "application/msgpack"
OCTETS = "application/octet-stream"


def reply(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def body_of(media_type: str) -> dict[str, Any]:
    """Return what OpenAPI says of a body that is read as bytes."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "content": content}}


def hex_id(text: str, field: str) -> bytes:
    """Read 32 bytes written in hexadecimal."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or raw.hex() != text:
        raise ProblemError(400, "id.malformed", "64 hexadecimal digits in lower case are expected", field=field)
    return raw


def typed(prefix: str, text: str, field: str) -> bytes:
    """Read a whole typed identifier, such as ``r-…``."""
    try:
        return parse_typed_id(prefix, text)
    except DecodeError as error:
        raise ProblemError(400, error.code, str(error), field=field) from None


def person(text: str, field: str) -> bytes:
    """Read a DID."""
    try:
        return parse_did(text)
    except DidError as error:
        raise ProblemError(400, error.code, str(error), field=field) from None
