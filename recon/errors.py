"""The one exception that a person sees."""


class ReconError(Exception):
    """Bad input, told in one line that names the file, the key or view, and what was expected.

    The command line prints the line on standard error and exits with code 2.
    """
