"""The one exception that means "what you asked for cannot be done", as against a bug."""


class InputError(ValueError):
    """Something the user gave (a config value, data, a run folder) is wrong.

    The message is one line that says what is wrong and what to do next. The command line prints it and exits with
    code 2; from Python it is an ordinary ``ValueError``.
    """
