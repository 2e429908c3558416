"""The index of history: the record by what it is about and by time, derived from it, and deletable at any time."""
