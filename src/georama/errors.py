"""Errors of georama: one sentence that says what was wanted, what came, and what to do about it."""


class GeoramaError(Exception):
    """An error that the user can act on.

    Args:
        message: What was wanted and what came, with the file, row or value.
        remedy: What to do; printed after the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class UsageError(GeoramaError):
    """The command line or the arguments are off (exit code 2)."""

    exit_code = 2


class DataError(GeoramaError):
    """A file, row or value cannot be used as it is (exit code 3)."""

    exit_code = 3


class AbsentError(DataError):
    """A source is sound and says nothing of what it was asked for (exit code 3)."""


class NetworkError(GeoramaError):
    """Something had to be fetched and could not be (exit code 4)."""

    exit_code = 4


class ResourceError(GeoramaError):
    """Memory, disk or a permission ran out (exit code 5)."""

    exit_code = 5
