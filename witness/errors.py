"""What a witness's operator hears of. Whatever a log does wrong is an HTTP status and none of these."""


class WitnessError(Exception):
    """Root of what the witness raises; the message is for its operator."""


class ConfigError(WitnessError):
    """The configuration cannot be used."""


class KeyFileError(WitnessError):
    """The key file cannot be used, or must not be overwritten."""


class StateError(WitnessError):
    """What was signed before is not known for certain, so nothing may be signed."""
