"""The errors that allkit raises for a mistake the user can fix.

    AllkitError
    ├── ConfigError       a setting, an option or a name that is not known
    ├── ImageError        one image that cannot be read or is refused
    ├── DatasetError      a set of images that cannot be used as it is
    ├── PluginError       a plugin that is missing, broken or claims a taken name
    ├── CheckpointError   a model folder that is incomplete, altered or not understood
    ├── ExportError       an exported file that cannot be written, read or trusted
    ├── OrderError        an order of a laboratory system that cannot be taken
    ├── SendError         a message that another system did not take
    └── ClinicError       a case, a reading or a signature that the clinic refuses
        ├── AccessError   who asks may not do this
        │   └── SignedOutError   who asks is not signed in, or was idle too long
        └── StoreError    the database or the folder of images cannot be used as it is

Every message says what happened, to which thing, and what to do. The command line prints the
message on standard error and exits with status 2; anything that is not an `AllkitError` is a bug
in allkit or in a plugin, and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AccessError",
    "AllkitError",
    "CheckpointError",
    "ClinicError",
    "ConfigError",
    "DatasetError",
    "ExportError",
    "ImageError",
    "OrderError",
    "PluginError",
    "SendError",
    "SignedOutError",
    "StoreError",
]


class AllkitError(Exception):
    """A mistake that the user can fix; its text is written for the user."""


class ConfigError(AllkitError):
    """A setting, an option or a name is not known, or a value is out of its range."""


class ImageError(AllkitError):
    """One image cannot be read, or the reader's policy refuses it.

    `code` is a stable word for programs: `missing`, `empty`, `not_an_image`, `truncated`,
    `corrupt`, `too_small`, `too_large`, `too_slow`, `animated`, `translucent`, `float`, `low_bit_depth`,
    `mode`, `array`; `identity` for a DICOM with writing in its pixels, `reader` for what the reader of a
    plugin could not do, `tile` for a part of a whole slide where a field is wanted.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:  # errors cross process borders whole
        return (_image_error, (str(self), self.code))


def _image_error(message: str, code: str) -> ImageError:
    return ImageError(message, code=code)


class DatasetError(AllkitError):
    """A set of images cannot be used as it is."""


class PluginError(AllkitError):
    """A plugin is missing or broken, or two plugins claim one name."""


class CheckpointError(AllkitError):
    """A model folder is incomplete, altered, or was written by something not understood."""


class ExportError(AllkitError):
    """An exported file cannot be written, read or trusted."""


class ClinicError(AllkitError):
    """A case, a reading, a signature or a report is refused; nothing was changed."""


class AccessError(ClinicError):
    """Who asks is not known, is signed out, or lacks the role that this needs."""


class SignedOutError(AccessError):
    """Who asks is not signed in, or was idle for too long; they sign in again."""


class StoreError(ClinicError):
    """The clinic's database or folder of images is missing, unreachable, damaged or too new."""


class OrderError(AllkitError):
    """An order of a laboratory system cannot be taken; the text names the part of the message.

    It quotes nothing of the message, which may hold a patient's name.
    """


class SendError(AllkitError):
    """Another system did not take a message. `retry` says whether sending it again can help."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry

    def __reduce__(self) -> tuple[object, ...]:
        return (_send_error, (str(self), self.retry))


def _send_error(message: str, retry: bool) -> SendError:
    return SendError(message, retry=retry)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
