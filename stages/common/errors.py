"""Errors that a user can fix, and safe output of their messages."""


class UserError(Exception):
    """An error in the input. The message names the cause and, if possible, a command that helps."""


def error_message(problem: UserError | OSError) -> str:
    """The message for a user; an error of the file system, such as a full disk, gets one line."""
    if isinstance(problem, UserError):
        return "\n".join(map(printable, str(problem).split("\n")))
    where = f"{problem.filename}: " if problem.filename else ""
    # NumPy's error for a full disk is "3136000 requested and 3035008 written".
    return printable(f"{where}{problem.strerror or f'{problem} (is the disk full?)'}")


def printable(text: str) -> str:
    """Escapes line breaks and control characters, as repr() does.

    A terminal would obey those in a file name, a YAML key or a server's answer.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
