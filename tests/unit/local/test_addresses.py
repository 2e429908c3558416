from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from stelae.domain.errors import Failed
from stelae.platforms.local.addresses import AddressPool

SUBNET = IPv4Network("10.9.0.0/29")
GATEWAY = IPv4Address("10.9.0.1")


def test_hands_out_every_host_but_the_gateway_once_and_then_says_that_none_is_left() -> None:
    pool = AddressPool(SUBNET, GATEWAY, [])
    taken = [pool.take() for _ in range(5)]
    assert sorted(taken) == [IPv4Address(f"10.9.0.{host}") for host in range(2, 7)]
    with pytest.raises(Failed, match="no address is left"):
        pool.take()


def test_what_instances_have_is_not_given_again() -> None:
    pool = AddressPool(SUBNET, GATEWAY, [IPv4Address("10.9.0.3"), IPv4Address("10.9.0.6")])
    assert {str(pool.take()) for _ in range(3)} == {"10.9.0.2", "10.9.0.4", "10.9.0.5"}


def test_a_freed_address_is_used_again_last() -> None:
    pool = AddressPool(SUBNET, GATEWAY, [])
    first = pool.take()
    pool.free(first)
    assert [pool.take() for _ in range(5)][-1] == first


def test_threads_never_get_the_same() -> None:
    pool = AddressPool(IPv4Network("10.9.0.0/22"), GATEWAY, [])
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: pool.take(), range(1000)))
    assert len(set(taken)) == 1000
