"""Which hosts are answered."""

from __future__ import annotations

import pytest

from strop.web.guard import hosts_for, is_loopback


@pytest.mark.parametrize(
    ("host", "header", "accepted"),
    [
        ("127.0.0.1", "127.0.0.1:8765", True),
        ("127.0.0.1", "localhost:8765", True),
        ("127.0.0.1", "LOCALHOST:8765", True),
        ("127.0.0.1", "[::1]:8765", True),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "localhost:8766", False),
        ("127.0.0.1", "evil.example:8765", False),
        ("127.0.0.1", "127.0.0.1.evil.example:8765", False),
        ("127.0.0.1", "192.168.0.7:8765", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", ":8765", False),
        ("0.0.0.0", "192.168.0.7:8765", True),
        ("0.0.0.0", "[fe80::1]:8765", True),
        ("0.0.0.0", "evil.example:8765", False),
        ("192.168.0.7", "192.168.0.7:8765", True),
        ("192.168.0.7", "192.168.0.8:8765", False),
        ("127.0.0.1", "labels.example", True),
        ("127.0.0.1", "labels.example:443", True),
        ("127.0.0.1", "x.labels.example", False),
    ],
)
def test_hosts(host: str, header: str, accepted: bool) -> None:
    assert hosts_for(host, 8765, elsewhere=["labels.example"]).accept(header) is accepted


def test_port_80_needs_no_port() -> None:
    assert hosts_for("127.0.0.1", 80).accept("localhost")


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
