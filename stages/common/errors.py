"""Errors that a user can fix."""


class UserError(Exception):
    """An error in the input. The message names the cause and, if possible, a command that helps."""


def printable(text: str) -> str:
    """Escapes line breaks and control characters, as repr() does.

    File names, YAML keys and answers of servers may contain characters that a terminal executes.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
