"""All errors that softlabels raises: one class per cause, each derived from the built-in exception that callers expect.

A message names the case and states what is wrong, what was found, what was expected, and what to do.
"""


class SoftLabelsError(Exception):
    """Any error that softlabels raises on purpose."""


class ConfigError(SoftLabelsError, ValueError):
    """The configuration is wrong; the message lists all errors at once."""


class InputError(SoftLabelsError, ValueError):
    """An argument, an image or a label file is not what the operation needs."""


class NotKeptError(InputError):
    """A result was handed on in memory and not written; the message says how to compute it again."""


class SeedError(InputError):
    """A present class has no seed, or a seed is where none is allowed."""


class StoreError(SoftLabelsError, OSError):
    """The store cannot be read or written."""


class FormatError(StoreError, ValueError):
    """A file on disk is damaged, incomplete or of another format version."""


class DeviceError(SoftLabelsError, RuntimeError):
    """The requested device or engine is not available."""


class DeviceFaultError(DeviceError):
    """A device failed in the middle of its work, and this process cannot use it again."""


class CertificateError(SoftLabelsError, ArithmeticError):
    """A computed map failed its own proof of exactness."""


class PluginError(SoftLabelsError, ImportError):
    """An installed package that extends softlabels is broken, or claims a name that is in use."""
