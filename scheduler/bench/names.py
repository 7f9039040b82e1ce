"""The scenarios by name, in the order in which they are run. Each is a module of this package with a `measure`."""

NAMES = ("enqueue", "drain", "sleep", "pickup", "delayed", "snapshot", "backlog", "planning", "idle")
SHORT = ("enqueue", "drain", "pickup", "delayed")
"""Run when none is named: the figures that most people ask for, in three to five minutes."""
