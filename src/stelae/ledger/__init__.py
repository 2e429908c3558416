"""The append-only record: events in SQLite, each a leaf of an RFC 6962 Merkle tree."""
