"""The controller: observe, decide, record, act; its use cases and its API."""
