"""HTTP to one node over its Unix socket, with a deadline and a bound on everything that comes back."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar
from urllib.parse import urlencode

import msgspec

from cli.errors import CliError, Exit
from cli.unix_http import UnixConnection

ANSWER_BYTES_MAX = 32 << 20
_PIECE_BYTES = 64 * 1024
# Beside the time that the node itself was asked to wait.
_GRACE_S = 5.0
# Between two pieces of a long answer, such as progress or ciphertext from another hospital.
_PIECE_S = 60.0

T = TypeVar("T")
Json = dict[str, Any]
Hex = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{2})+\Z")]


class _Problem(msgspec.Struct):
    """RFC 9457 problem details, as far as they are shown."""

    code: str = "node.bad_answer"
    title: str = ""
    detail: str = ""
    field: str | None = None
    hint: str | None = None
    transaction: str | None = None


class Node:
    """The node that a command talks to; ``name`` is what its user calls it."""

    def __init__(self, name: str, socket_path: Path, timeout_s: float) -> None:
        """Aim at a socket; nothing is opened before the first request."""
        self.name = name
        self._path = socket_path
        self._timeout_s = timeout_s

    def get(self, path: str, answer: type[T], **query: object) -> T:
        """Ask for JSON of a given form; query values that are None are left out.

        Raises:
            CliError: not reachable, a refusal by its code, or an answer that is none.
        """
        return decode_answer(self._read("GET", path, query), answer)

    def post(self, path: str, body: object, answer: type[T]) -> T:
        """Send JSON and read JSON.

        Raises:
            CliError: as for ``get``.
        """
        sent = msgspec.json.encode(body)
        return decode_answer(self._read("POST", path, {}, sent, "application/json"), answer)

    def post_msgpack(self, path: str, body: object, answer: type[T]) -> T:
        """Send MessagePack, as signed bytes travel, and read JSON.

        Raises:
            CliError: as for ``get``.
        """
        sent = msgspec.msgpack.encode(body)
        return decode_answer(self._read("POST", path, {}, sent, "application/msgpack"), answer)

    def get_bytes(self, path: str, wait_s: float = 0, **query: object) -> bytes:
        """Ask for a file, and let the node wait for it to exist.

        Raises:
            CliError: as for ``get``.
        """
        if wait_s:
            query["wait"] = f"{wait_s:.3f}"
        return self._read("GET", path, query, timeout_s=wait_s + _GRACE_S if wait_s else self._timeout_s)

    def status_of(self, path: str) -> tuple[int, bytes]:
        """Return the HTTP status and body of a health check, whatever it is.

        Raises:
            CliError: not reachable.
        """
        with self._exchange("GET", path, timeout_s=self._timeout_s) as (_, response):
            return response.status, _read_all(response)

    def why_not_ready(self) -> list[str]:
        """Return what keeps the node from being ready, in words; nothing if it is.

        Raises:
            CliError: not reachable, or what answers is no health check.
        """
        code, body = self.status_of("/readyz")
        if code == 200:
            return []
        if code not in (429, 503):
            raise CliError("node.bad_answer", f"the node answers its health check with HTTP {code}")
        content = decode_answer(body, Json)
        if "why_not" in content:
            return part_of(content, "why_not", list[str])
        return [str(content.get("detail") or "it does not say")]

    def upload(self, path: str, content: IO[bytes], size_bytes: int, answer: type[T], **query: object) -> T:
        """Send a file's bytes as they are and read JSON.

        Raises:
            CliError: as for ``get``.
        """
        sent = self._read("POST", path, query, content, "application/octet-stream", size_bytes)
        return decode_answer(sent, answer)

    def stream(self, method: str, path: str) -> Iterator[bytes]:
        """Yield an answer of any length piece by piece; the time counts for each piece.

        Raises:
            CliError: as for ``get``, also in the midst of the answer.
        """
        with self._exchange(method, path, timeout_s=self._timeout_s) as (connection, response):
            if response.status >= 300:
                raise _refusal(response, _read_all(response))
            while piece := response.read1(_PIECE_BYTES):
                yield piece
                connection.timed.extend(max(self._timeout_s, _PIECE_S))
            if response.length:
                raise _bad_answer("it ended before its length")

    def _read(
        self,
        method: str,
        path: str,
        query: dict[str, object],
        body: bytes | IO[bytes] | None = None,
        content_type: str = "",
        size_bytes: int | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        target = path + ("?" + urlencode(_given(query), doseq=True) if _given(query) else "")
        headers = {"Content-Type": content_type} if content_type else {}
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        with self._exchange(method, target, body, headers, timeout_s or self._timeout_s) as (_, response):
            data = _read_all(response)
            if response.status >= 300:
                raise _refusal(response, data)
            return data

    @contextmanager
    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | IO[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 0,
    ) -> Iterator[tuple[UnixConnection, HTTPResponse]]:
        connection, response = UnixConnection(self._path, timeout_s), None
        try:
            try:
                connection.request(method, target, body, headers or {})
            except (BrokenPipeError, ConnectionResetError):
                # A node refuses a body that is too large before it has read all of it; its words still wait.
                if connection.sock is None:
                    raise
            response = connection.getresponse()
            yield connection, response
        except (FileNotFoundError, ConnectionError, PermissionError) as error:
            raise self._unreachable(error) from None
        except TimeoutError:
            raise CliError("node.timeout", f"{self.name} did not answer in time", exit_code=Exit.UNREACHABLE) from None
        except HTTPException as error:
            raise _bad_answer(type(error).__name__) from None
        finally:
            if response is not None:
                response.close()
            connection.close()
            connection.timed.close()

    def _unreachable(self, error: OSError) -> CliError:
        reason = {
            FileNotFoundError: "its socket is not there",
            ConnectionRefusedError: "nobody listens on its socket",
            PermissionError: "its socket belongs to another user",
        }.get(type(error), "it closed the connection")
        return CliError(
            "node.not_reachable",
            f"{self.name} does not answer: {reason} ({self._path})",
            exit_code=Exit.UNREACHABLE,
            hint="start it (caretrace start, caretrace testnet start NAME), or name another with --node",
        )


def decode_answer(data: bytes, answer: type[T]) -> T:
    """Read JSON that a node answered.

    Raises:
        CliError: it is not of this form.
    """
    try:
        return msgspec.json.decode(data, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_answer(str(error)) from None


def part_of(answer: Json, name: str, form: type[T]) -> T:
    """Take one field out of a node's answer.

    Raises:
        CliError: it is missing, or not of this form.
    """
    try:
        return msgspec.convert(answer.get(name), form)
    except msgspec.ValidationError as error:
        raise _bad_answer(f"{name}: {error}") from None


def _given(query: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in query.items() if value not in (None, (), [])}


def _read_all(response: HTTPResponse) -> bytes:
    pieces, size = [], 0
    while piece := response.read1(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise _bad_answer(f"it is larger than {ANSWER_BYTES_MAX} bytes")
    if response.length:
        raise _bad_answer("it ended before its length")
    return b"".join(pieces)


def _bad_answer(detail: str) -> CliError:
    return CliError("node.bad_answer", f"what answers is no node of ours: {detail}")


def _refusal(response: HTTPResponse, data: bytes) -> CliError:
    try:
        problem = msgspec.json.decode(data, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _bad_answer(f"HTTP {response.status} without a reason")
    hint = problem.hint
    if wait := response.getheader("Retry-After"):
        hint = hint or f"again in {wait} s"
    return CliError(
        problem.code,
        problem.detail or problem.title or f"HTTP {response.status}",
        field=problem.field,
        hint=hint,
        transaction=problem.transaction,
    )
