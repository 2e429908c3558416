"""Fakes, contract suites and load tools: shipped, so that others can test their own platforms."""
