"""Images leave this machine only for a server that the user named, and only if told so."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from medsegagent.errors import UsageError


def require_consent(url: str, agreed: bool) -> None:
    """Check an address before anything is sent there.

    Raises:
        UsageError: If it is no http or https address, or is not this machine's and sending was not agreed to.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no address ({error})", "Give http://HOST:PORT.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"{url!r} is no http address", "Give http://HOST:PORT.")
    if not agreed and not _here(host):
        raise UsageError(
            f"the image would be sent to {host}",
            "Give --send-images if that is agreed. Voxels are sent, no header and no name.",
        )


def _here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
