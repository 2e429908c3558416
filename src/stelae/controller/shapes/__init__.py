"""The shapes of what the API answers: the description of the API is made of them, and tests hold the answers to them.

Times are microseconds since 1970 (UTC), sizes bytes, traffic basis points; digests and ids are whole. An answer may
get more fields in a later version: who reads one must ignore what it does not know.
"""
