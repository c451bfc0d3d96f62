"""A node's home and its settings: where each thing lies, and what ``config.toml`` may say.

Every setting but ``name`` and ``reach`` may be overridden by an environment variable, ``CARETRACE_`` and its name in
capitals (``CARETRACE_LOG_LEVEL=debug``); a list is then written with commas.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from storage.schema.codec import MemberName

ENVIRONMENT_PREFIX = "CARETRACE_"
CONFIG_BYTES_MAX = 64 * 1024
REACH_MAX = 256
# The address of a Unix socket has 108 bytes on Linux, its closing zero included.
SOCKET_PATH_BYTES_MAX = 107
_MIB = 1 << 20
_HOST_NAME = re.compile(r"\A[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")

Address = Annotated[str, msgspec.Meta(max_length=256)]
_Addresses = Annotated[tuple[Address, ...], msgspec.Meta(max_length=8)]


class ConfigError(Exception):
    """A home or its settings cannot be used.

    Attributes:
        code: ``config.not_found``, ``config.damaged`` (no TOML), or ``config.invalid`` (a setting is wrong).
        field: the setting at fault, where there is one.
    """

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        """Say which file, which setting and which rule."""
        super().__init__(detail)
        self.code = code
        self.field = field


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one node; paths are taken from the home unless they are absolute.

    ``listen`` and ``advertise`` are multiaddrs (``/ip4/10.0.0.5/tcp/4101``); without ``advertise`` the node is
    known by what it listens on. ``reach`` says where this node finds a member instead of where the ledger says: behind
    a tunnel or a gateway. ``http_tcp`` is ``HOST:PORT`` for health alone, or ``off``. A node that is more than
    ``blocks_behind_max`` behind takes the state instead of the blocks.
    """

    name: MemberName
    listen: Annotated[_Addresses, msgspec.Meta(min_length=1)]
    advertise: _Addresses = ()
    reach: Annotated[dict[MemberName, _Addresses], msgspec.Meta(max_length=REACH_MAX)] = {}
    http_tcp: str = "off"
    socket: str = "run/node.sock"
    data: str = "data"
    vault: str = "vault"
    data_keys: str = "datakeys"
    record_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=16 * 1024 * _MIB)] = 64 * _MIB
    mempool_transactions_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20_000
    mempool_bytes_max: Annotated[int, msgspec.Meta(ge=_MIB, le=4096 * _MIB)] = 64 * _MIB
    blocks_behind_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 200
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the other members find this node."""
        return self.advertise or self.listen


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one node, and what lies in it under fixed names."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Settings."""
        return self.path / "config.toml"

    @property
    def card_file(self) -> Path:
        """What the other founders need to know of this member: names, addresses, public keys."""
        return self.path / "card.json"

    @property
    def genesis_file(self) -> Path:
        """The network that this node belongs to."""
        return self.path / "genesis.json"

    @property
    def key_file(self) -> Path:
        """The keys that a node holds: ``node``, ``service`` and ``encryption``; never the organisation's."""
        return self.path / "keys" / "node.key"

    @property
    def next_key_file(self) -> Path:
        """Keys that are about to take the place of the node's; only while they are being appointed."""
        return self.key_file.with_name("node.next.key")

    @property
    def appointed_file(self) -> Path:
        """Which keys the organisation appointed last, where they are no longer those of the founding."""
        return self.key_file.with_name("appointed.json")

    def retired_key_file(self, encryption_key: bytes) -> Path:
        """Where the secret of an encryption key is kept that was replaced."""
        return self.key_file.with_name(f"retired-{encryption_key.hex()[:16]}.key")

    @property
    def retired_key_files(self) -> list[Path]:
        """The encryption keys that were replaced, kept for what is sealed to them."""
        return sorted(self.key_file.parent.glob("retired-*.key"))

    @property
    def invite_file(self) -> Path:
        """The invite by which this hospital came to the network, where it did not found it."""
        return self.path / "network.invite"

    @property
    def run_folder(self) -> Path:
        """What exists while the node runs: socket and pid file."""
        return self.path / "run"

    @property
    def pid_file(self) -> Path:
        """The process id in decimal; the running node holds an exclusive ``flock`` on this file."""
        return self.run_folder / "node.pid"

    def resolve(self, path: str) -> Path:
        """Return where a path of the settings leads."""
        return self.path / path

    def socket(self, config: Config) -> Path:
        """Return where the node answers its operator.

        Raises:
            ConfigError: the path is longer than the system lets a socket's be.
        """
        path = self.resolve(config.socket).absolute()
        if len(str(path).encode()) > SOCKET_PATH_BYTES_MAX:
            detail = f"{path} is longer than {SOCKET_PATH_BYTES_MAX} bytes, which no Unix socket may be"
            raise ConfigError("config.invalid", detail, "socket")
        return path


def load_config(home: Home, environment: Mapping[str, str]) -> Config:
    """Read the settings of a home.

    Raises:
        ConfigError: no such file, no TOML, an unknown setting, or a value against its rule; names file and setting.
    """
    path = home.config_file
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError("config.not_found", f"there is no {path}; make a home with: caretrace init") from None
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError("config.damaged", f"{path} is larger than {CONFIG_BYTES_MAX} bytes")
    return parse_config(data, environment, str(path))


def parse_config(data: bytes, environment: Mapping[str, str], source: str = "config.toml") -> Config:
    """Read settings from TOML; ``source`` names the file in errors.

    Raises:
        ConfigError: as for ``load_config``.
    """
    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError("config.damaged", f"{source} is no TOML: {error}") from None
    overrides = _overrides(environment)
    try:
        config = msgspec.convert(content | overrides, Config, strict=False)
    except msgspec.ValidationError as error:
        rule, _, place = str(error).partition(" - at `")
        field = place.rpartition("$.")[2].partition("`")[0].partition("[")[0] or None
        where = f"{ENVIRONMENT_PREFIX}{field.upper()}" if field in overrides and field else source
        raise ConfigError("config.invalid", f"{where}: {field + ': ' if field else ''}{rule}", field) from None
    _check_addresses(config, source)
    return config


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in Config.__struct_fields__:
        text = environment.get(ENVIRONMENT_PREFIX + field.upper())
        # Who a node is and whom it finds where stand in its home alone: a variable may reach more than one node.
        if text is not None and field not in ("name", "reach"):
            found[field] = text.split(",") if field in ("listen", "advertise") else text
    return found


def _check_addresses(config: Config, source: str) -> None:
    dialled = [("reach", addresses, 1) for addresses in config.reach.values()]
    for field, addresses, port_min in (("listen", config.listen, 0), ("advertise", config.advertise, 1), *dialled):
        for address in addresses:
            if not is_multiaddr(address, port_min):
                detail = f"{source}: {field}: {address!r} is not of the form /ip4/10.0.0.5/tcp/4101"
                raise ConfigError("config.invalid", detail, field)
    if config.http_tcp != "off" and parse_host_port(config.http_tcp) is None:
        detail = f"{source}: http_tcp: {config.http_tcp!r} is neither HOST:PORT nor off"
        raise ConfigError("config.invalid", detail, "http_tcp")


def is_multiaddr(text: str, port_min: int = 1) -> bool:
    """Tell whether a text is a multiaddr that a node can use: IPv4, IPv6 or DNS, and a TCP port."""
    parts = text.split("/")
    if len(parts) != 5 or parts[0] or parts[3] != "tcp" or not _is_port(parts[4], port_min):
        return False
    kind, host = parts[1:3]
    if kind in ("dns", "dns4", "dns6"):
        return bool(_HOST_NAME.match(host))
    return (kind, _ip_version(host)) in (("ip4", 4), ("ip6", 6))


def multiaddr(host: str, port: int) -> str:
    """Write a host, by address or name, and a TCP port as a multiaddr."""
    kind = {4: "ip4", 6: "ip6"}.get(_ip_version(host), "dns")
    return f"/{kind}/{host}/tcp/{port}"


def parse_multiaddr(text: str) -> tuple[str, int]:
    """Return host and port of what ``multiaddr`` has written."""
    _, _, host, _, port = text.split("/")
    return host, int(port)


def parse_host_port(text: str) -> tuple[str, int] | None:
    """Read ``127.0.0.1:8101``, ``[::1]:8101`` or ``name:8101``; None if it is none of them."""
    host, colon, port = text.rpartition(":")
    if not colon or not _is_port(port, 0):
        return None
    if host.startswith("[") and host.endswith("]"):
        return (host[1:-1], int(port)) if _ip_version(host[1:-1]) == 6 else None
    return (host, int(port)) if _HOST_NAME.match(host) else None


def _is_port(text: str, port_min: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and port_min <= int(text) <= 65535


def _ip_version(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0
