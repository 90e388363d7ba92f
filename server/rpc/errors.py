"""What a handler raises when the caller is wrong.

`server/rpc/status.py` turns it into a gRPC status with its details.
"""


class RequestError(Exception):
    """Root of the caller's mistakes."""


class InvalidArgumentError(RequestError):
    """A field of the request cannot be used.

    Attributes:
        field: Path of the field in the request, as `landmarks[3].endpoints`.
        message: What is wrong and what is asked for.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class NotFoundError(RequestError):
    """The resource does not exist.

    Attributes:
        name: Its resource name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} does not exist")
        self.name = name
