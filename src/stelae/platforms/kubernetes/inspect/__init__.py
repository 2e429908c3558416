"""Inspections of what a cluster holds: what differs from the record, who made it so, and what puts it right."""
