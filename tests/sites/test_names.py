"""Hosts and ports."""

import pytest

from fedpolyp.sites.names import address_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("fed.example.org:9443", ("fed.example.org", 9443)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        *(
            (text, None)
            for text in ("a:0", "a:-1", "a:70000", "a:text", "a:", ":1", "a", "", "a/b:1", "a\n:1", "a b:1")
        ),
        *((text, None) for text in ("a:" + "9" * 10**5, "a:٣", "https://a:1", "\ud800:1")),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int] | None) -> None:
    assert address_of(text) == address
