"""Where a host of the web is, and whether it is anybody's or a private network's."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from typing import Final

from ..settings import is_loopback

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def addresses_of(host: str, port: int, scheme: str) -> list[str]:
    """The host's addresses; none where a proxy of the environment is the one to look them up.

    Raises:
        OSError: When the name is unknown.
    """
    proxies = urllib.request.getproxies()
    if (scheme in proxies or "all" in proxies) and not is_loopback(host) and not urllib.request.proxy_bypass(host):
        return []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is anybody's: not this machine's, and no private network's, nor a way to one."""
    parsed: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        within = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            within = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        parsed = within or parsed
    return parsed.is_global and not parsed.is_multicast
