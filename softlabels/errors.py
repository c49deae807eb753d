"""Every error a user can meet: one kind per cause, each also the builtin that callers expect.

A message says what (with the case id), what was got, what was expected, and what to do.
"""


class SoftLabelsError(Exception):
    """Any error that softlabels raises on purpose."""


class ConfigError(SoftLabelsError, ValueError):
    """The configuration is wrong; the message lists every fault at once."""


class InputError(SoftLabelsError, ValueError):
    """An argument, an image or a label file is not what the operation needs."""


class SeedError(InputError):
    """A present class has no seed, or a seed lies where none may lie."""


class StoreError(SoftLabelsError, OSError):
    """The store cannot be read or written."""


class FormatError(StoreError, ValueError):
    """What lies on disk is damaged, incomplete or of another format version."""


class DeviceError(SoftLabelsError, RuntimeError):
    """The device or engine that was asked for is not available here."""


class CertificateError(SoftLabelsError, ArithmeticError):
    """A computed map failed its own proof of exactness."""


class PluginError(SoftLabelsError, ImportError):
    """An installed package that extends softlabels is broken, or claims a name that is taken."""
