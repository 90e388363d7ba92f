"""What all tests share."""

import signal


def pytest_configure() -> None:
    """Undo an ignored SIGINT.

    A shell starts background jobs with SIGINT ignored, children inherit that, and tests that end a command by Ctrl-C
    would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
