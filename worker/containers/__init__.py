"""Containers: what a spec may ask for (policy), what that is to an engine (request), and the engine itself (engine)."""
