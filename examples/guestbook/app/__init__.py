"""Guestbook: a small web application that Stelae's tests, benchmarks and quick start deploy."""
