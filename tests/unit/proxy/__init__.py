"""Tests of the proxy and of the readiness probes."""
