"""Resolve web hosts, and check whether their addresses are public or private."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from typing import Final

from ..settings import is_loopback

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What Python's `is_global` says has changed between its patch releases, so the IANA registries of special-purpose
# addresses (as of 2026) are repeated here. Missing are only those blocks that are anycast services of the internet.
_SPECIAL_V4: Final = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's wire server, an address of the internet that only its own machines reach
    )
)  # fmt: skip
_SPECIAL_V6: Final = tuple(
    ipaddress.IPv6Network(block)
    # Protocol assignments (Teredo, benchmarks and ORCHID among them), documentation, documentation.
    for block in ("2001::/23", "2001:db8::/32", "3fff::/20")
)
# All that is assigned to be reached by anybody lies here; loopback, IPv4-compatible, unique local, link-local and
# site-local addresses, multicast, segment routing and what is not assigned yet do not.
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Names that no public resolver answers, which a proxy would look up in its own network.
_LOCAL_NAMES: Final = (".localhost", ".local", ".internal", ".home.arpa", ".localdomain")


def addresses_of(host: str, port: int, scheme: str) -> list[str]:
    """The host's addresses; none if a proxy from the environment resolves its name.

    Raises:
        OSError: When the name is unknown.
    """
    host = host.rstrip(".")
    proxies = urllib.request.getproxies()
    if (scheme in proxies or "all" in proxies) and not is_loopback(host) and not urllib.request.proxy_bypass(host):
        literal = _literal(host)
        return [] if literal is None else [literal]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_local_name(host: str) -> bool:
    """Whether a name belongs to a private network: no public resolver answers for it."""
    host = host.rstrip(".").lower()
    return "." not in host or f".{host}".endswith(_LOCAL_NAMES)


def _literal(host: str) -> str | None:
    """The address that a host is in any of its spellings (`127.1`, `0x7f000001`); None for a name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def is_public(address: str) -> bool:
    """Whether an address is public: not of this machine, not of a private network, and not a way into one."""
    parsed: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        within = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            within = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        parsed = within or parsed
    if isinstance(parsed, ipaddress.IPv4Address):
        special = any(parsed in block for block in _SPECIAL_V4)
    else:
        special = parsed not in _UNICAST or parsed.is_site_local or any(parsed in block for block in _SPECIAL_V6)
    return not special and parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
