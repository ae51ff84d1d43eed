"""`OAI_CONFIG_LIST`: which language models may be asked. Loading it imports neither openai nor AutoGen."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from medsegagent.errors import ConfigError

VARIABLE = "OAI_CONFIG_LIST"
_SIZE_LIMIT = 2**20
_REMEDY = "docs/llm.md and OAI_CONFIG_LIST.example show a valid list."
_LEGACY = ("api_version", "cache_seed", "price")
"""Keys of older lists that mean nothing here and do no harm."""
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_UNSET = "api_key looks like the name of an environment variable, and none of that name is set"
_PRIVATE = tuple(
    ip_network(block)
    for block in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/32", "::1", "fc00::/7")
)


class Endpoint(BaseModel):
    """One model behind one OpenAI-compatible address."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: Annotated[str, Field(min_length=1)]
    base_url: str = "https://api.openai.com/v1"
    api_key: SecretStr | None = None
    """The key, or the name of an environment variable that holds it (`OPENAI_API_KEY`); a local server needs none."""
    tags: tuple[str, ...] = ()
    structured_output: bool | None = None
    """Whether it takes a JSON schema; None: tried once and remembered. So for the next two."""
    tools: bool | None = None
    json_mode: bool | None = None
    streaming: bool = False
    temperature: float | None = 0.0
    """None: not sent, for models that refuse it."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds for one request, whole answer included."""
    max_retries: Annotated[int, Field(ge=0, le=10)] = 3
    """Further tries after 429, 5xx and timeouts."""

    @model_validator(mode="before")
    @classmethod
    def _older_keys(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        kind = raw.get("api_type", "openai")
        if kind not in ("openai", "open_ai"):
            raise ValueError(f"api_type {kind!r} is not supported; give an OpenAI-compatible base_url")
        return {key: value for key, value in raw.items() if key not in (*_LEGACY, "api_type")}

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must look like https://host/v1 or http://host:port/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query; a key belongs in api_key")
        return url.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _sendable_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key is None else _sendable(key.get_secret_value())

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return urlsplit(self.base_url).netloc

    @property
    def where(self) -> str:
        """Model and host, for people."""
        return f"{self.model} at {self.host}"

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine or in a private range. A name counts by what it resolves to."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
        except OSError:
            return False
        return bool(found) and all(_is_private(ip_address(address)) for address in found)

    @property
    def key_is_set(self) -> bool:
        """Whether there is a key, here or in the variable that is named."""
        if self.api_key is None:
            return False
        text = self.api_key.get_secret_value()
        return bool(os.environ.get(text)) if _VARIABLE_NAME.fullmatch(text) else bool(text)

    def key(self) -> SecretStr:
        """The key itself; a dummy where none is configured, so that no client looks for one elsewhere.

        Raises:
            ConfigError: If the variable that is named is not set, or holds what can be no key.
        """
        if self.api_key is None or not self.api_key.get_secret_value():
            return SecretStr("none")
        name = self.api_key.get_secret_value()
        if not _VARIABLE_NAME.fullmatch(name):
            return self.api_key
        if not os.environ.get(name):
            # A name with digits may be a key that looks like a name.
            shown = f" {name}" if not re.search(r"\d", name) else ""
            remedy = f"Set it (export {shown.strip() or 'NAME'}=...), or put the key itself into api_key."
            what = f"api_key names the environment variable{shown}, which is not set" if shown else _UNSET
            raise ConfigError(what, remedy, self.where)
        try:
            return _sendable(os.environ[name])
        except ValueError as error:
            what = f"the environment variable {name}, which api_key names, {error}"
            raise ConfigError(what, "Set it anew.", self.where) from None


def load_endpoints(config: Path | str | None = None) -> tuple[Endpoint, ...]:
    """Read the configuration.

    Args:
        config: A file. None: the environment variable `OAI_CONFIG_LIST` (JSON, or a file's path), else the file
            `OAI_CONFIG_LIST` in the current folder, else there is none.

    Returns:
        The entries in order; empty if nothing is configured.

    Raises:
        ConfigError: If what is configured cannot be read or does not fit. Never shows a value.
    """
    if config is not None:
        return _from_file(Path(config))
    if text := os.environ.get(VARIABLE, "").strip():
        if text[0] in "[{":
            return _parse(text, f"environment variable {VARIABLE}")
        return _from_file(Path(text))
    default = Path(VARIABLE)
    return _from_file(default) if default.is_file() else ()


def pick_endpoint(endpoints: Sequence[Endpoint], model: str | None = None, tag: str | None = None) -> Endpoint:
    """The first entry of that model and that tag.

    Raises:
        ConfigError: If there is none; lists what there is.
    """
    if not endpoints:
        raise ConfigError("no LLM is configured", f"Give --config, or set {VARIABLE}. {_REMEDY}")
    for endpoint in endpoints:
        if model in (None, endpoint.model) and (tag is None or tag in endpoint.tags):
            return endpoint
    wanted = " and ".join(f"{name} {value!r}" for name, value in (("model", model), ("tag", tag)) if value is not None)
    known = "; ".join(f"{item.model} [{', '.join(item.tags)}]" for item in endpoints)
    raise ConfigError(f"no entry has {wanted}", f"The configuration offers: {known}.")


def _from_file(file: Path) -> tuple[Endpoint, ...]:
    try:
        if file.stat().st_size > _SIZE_LIMIT:
            raise ConfigError(f"larger than {_SIZE_LIMIT >> 20} MiB", _REMEDY, str(file))
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot be read ({reason})", _REMEDY, str(file)) from None
    return _parse(text, str(file))


def _parse(text: str, where: str) -> tuple[Endpoint, ...]:
    # Chained exceptions would carry the text, and with it a key.
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        at = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"not JSON{at}", _REMEDY, where) from None
    entries = [raw] if isinstance(raw, dict) else raw
    if not isinstance(entries, list) or not entries:
        raise ConfigError("must be a non-empty JSON list of objects", _REMEDY, where)
    endpoints = []
    for number, entry in enumerate(entries, 1):
        try:
            endpoints.append(Endpoint.model_validate(entry))
        except ValidationError as error:
            raise ConfigError(f"entry {number}: {_complaints(error)}", _REMEDY, where) from None
    return tuple(endpoints)


def _complaints(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'entry'}: {item['msg']}" for item in details)


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None if no client could use it. Python's own complaints would quote the address."""
    try:
        parts = urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    return None if re.search(r"[\x00-\x20\x7f\\]", url) else parts


def _sendable(key: str) -> SecretStr:
    """The key without the spaces and line ends that come along from files; HTTP clients quote a key they refuse."""
    if not re.fullmatch(r"[!-~]*", key.strip()):
        raise ValueError("must be a key without spaces, line ends and other than ASCII characters")
    return SecretStr(key.strip())


def _is_private(address: IPv4Address | IPv6Address) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    return any(plain in block for block in _PRIVATE if block.version == plain.version)


def summary(endpoints: Iterable[Endpoint]) -> str:
    """One line for `doctor`: models, hosts, and whether a key is there. Never a key."""
    parts = []
    for item in endpoints:
        key = "key set" if item.key_is_set else "no key" if item.api_key is None else "key variable not set"
        parts.append(f"{item.where} ({key})")
    return "; ".join(parts)
