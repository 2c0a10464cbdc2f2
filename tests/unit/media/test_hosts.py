"""Where a host is: as the system looks it up, or a proxy, and what its address is in any spelling."""

import socket
from collections.abc import Iterator

import pytest

from llamacpp_server._media import addresses_of, is_local_name, is_public


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int, int]]]:
    """What the system is asked for; it knows each host by two addresses, one of them twice."""
    seen: list[tuple[str, int, int]] = []

    def lookup(host: str, port: int, *, type: int) -> list[tuple[object, ...]]:
        seen.append((host, port, type))
        return [(0, type, 0, "", (address, port)) for address in ("192.0.2.1", "192.0.2.1", "2001:db8::1")]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield seen


def test_a_host_has_each_of_its_addresses_once(asked: list[tuple[str, int, int]]) -> None:
    assert addresses_of("example.org.", 443, "https") == ["192.0.2.1", "2001:db8::1"]
    assert asked == [("example.org", 443, socket.SOCK_STREAM)]


@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
def test_a_name_that_a_proxy_looks_up_is_not_looked_up_here(
    asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://proxy.example:3128")
    assert addresses_of("example.org", 443, "https") == []
    assert asked == []


@pytest.mark.parametrize(
    ("host", "scheme"), [("example.org", "http"), ("127.0.0.1", "https"), ("direct.example", "https")]
)
def test_what_does_not_go_through_the_proxy_is_looked_up(
    asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch, host: str, scheme: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example")
    assert addresses_of(host, 443, scheme) == ["192.0.2.1", "2001:db8::1"]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.7", "10.0.0.7"), ("10.7", "10.0.0.7"), ("0x0a000007", "10.0.0.7"), ("167772167", "10.0.0.7"),
        ("2001:db8::7", "2001:db8::7"), ("fe80::7%eth0", "fe80::7"), ("10.0.0.7.", "10.0.0.7"),
    ],
)  # fmt: skip
def test_an_address_in_any_spelling_is_known_though_a_proxy_fetches_it(
    monkeypatch: pytest.MonkeyPatch, host: str, address: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert addresses_of(host, 443, "https") == [address]


@pytest.mark.parametrize("host", ["example.org", "local.example.org", "example.localX"])
def test_other_names_are_of_the_internet(host: str) -> None:
    assert not is_local_name(host)


def test_the_zone_of_an_address_changes_nothing() -> None:
    assert not is_public("fe80::7%eth0")
    assert is_public("2606:4700::1111%eth0") is is_public("2606:4700::1111") is True
