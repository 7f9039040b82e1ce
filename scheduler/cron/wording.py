"""How refused text is quoted: always one short line, whatever a user pasted."""

_MAX_CHARACTERS = 60


def shown(text: str) -> str:
    """`text` quoted for an error message: control characters escaped, and cut after 60 characters."""
    return repr(text) if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]!r}…"
