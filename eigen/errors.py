"""The one exception for what a user can mend."""


class InputError(ValueError):
    """A user's input or setting can't be used.

    Its message is one line that names the file or the setting, says what is
    wrong with it and what to do; the command line prints it and exits with 2.
    """
