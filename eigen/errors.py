"""The one exception for what a user can mend."""

import operator
from typing import SupportsIndex, cast


class InputError(ValueError):
    """A user's input or setting can't be used.

    Its message is one line that names the file or the setting, says what is
    wrong with it and what to do; the command line prints it and exits with 2.
    """


def whole_number(value: object, name: str) -> int:
    """Return a value as an integer, where it is one.

    Raises
    ------
    InputError
        It isn't; 2.0 is none either.
    """
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise InputError(f"{name} {' '.join(repr(value).split())}: must be a whole number") from None
