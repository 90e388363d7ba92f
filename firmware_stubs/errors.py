"""The errors of the emulator, each with the stable code that the control protocol carries."""


class EmulatorError(Exception):
    """Base of all; `code` is what a client of the control protocol sees."""

    code = "INTERNAL"


class StateError(EmulatorError):
    """A directory does not hold what a CA, device or board needs."""

    code = "STATE"


class DeviceGoneError(EmulatorError):
    """The device lost power or left its slot since this board was switched on."""

    code = "DEVICE_GONE"


class UnknownDeviceError(EmulatorError):
    """No such device on this board."""

    code = "UNKNOWN_DEVICE"


class BadRequestError(EmulatorError):
    """A request, fault order, place or world file that cannot be understood."""

    code = "BAD_REQUEST"


class ResponderError(EmulatorError):
    """The ranging responder's process is not there any more."""

    code = "RESPONDER"
