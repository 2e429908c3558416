"""A witness (C2SP tlog-witness): it remembers how far it has seen each log that it trusts, and cosigns what goes on
from there, and nothing else. So whoever shows a cosigned checkpoint cannot have shown the witness another history.

It runs somewhere else, or is run by somebody else, and needs no controller.
"""
