"""Errors that a user can cause: each is a `ValueError` with one sentence that says what to change."""

from __future__ import annotations

import pickle
from typing import Any

from lora_backend.i18n import N_, Message

MAX_REASON = 300
"""Letters of another library's words that stand in a sentence of ours."""


class FlightdeckError(ValueError):
    """Base of ours. `message` keeps template and values, so that it can be stored and shown in any language."""

    code = "error"

    def __init__(self, template: str, /, **values: Any) -> None:
        self.message = Message(template, values)
        super().__init__(template, values)

    def __str__(self) -> str:
        return self.message.text()


class FileRefusedError(FlightdeckError, OSError):
    """A file is not read: it is no regular file, or has more in it than its reader can take.

    An `OSError` as well, for whoever does without a file that cannot be read does without this one too.
    """

    code = "file"

    def __init__(self, template: str, /, **values: Any) -> None:
        FlightdeckError.__init__(self, template, **values)
        self.strerror = str(self)


class ConfigError(FlightdeckError):
    """The config has at least one error; no run may start from it."""

    code = "config"


class ExpressionError(FlightdeckError):
    """An expression of a user takes too long. `pattern`: which one; None where it is all of them together."""

    code = "expression_too_slow"

    def __init__(self, template: str, /, *, pattern: str | None) -> None:
        self.pattern = pattern
        shown = pattern if pattern is None or len(pattern) <= 80 else pattern[:79] + "…"
        super().__init__(template, **({} if shown is None else {"shown": shown}))


class ModelError(FlightdeckError):
    """The model cannot be found, read, or used for what was asked."""

    code = "model"


class UntrainableError(ModelError):
    """What the config asks of the model cannot be built, so there is nothing to plan and nothing to start.

    `about`: the key whose value stands in the way, where it is known.
    """

    code = "untrainable"

    def __init__(self, template: str, /, *, about: str | None = None, **values: Any) -> None:
        super().__init__(template, **values)
        self.key = about


class DeviceError(FlightdeckError):
    """This machine's devices cannot do what was asked."""

    code = "device"


class TooLittleMemoryError(DeviceError):
    """No device has the memory that is asked of one, and the CPU is excluded."""


class UntraceableError(ModelError):
    """The model can be built, but its training step cannot be run on tensors without values."""


class PlanError(DeviceError):
    """What is planned does not fit, or is for devices that are not there any more."""

    code = "plan"


class DataError(FlightdeckError):
    """The data set cannot be found or read; names the file and, where there is one, the line."""

    code = "data"


class DataChangedError(DataError):
    """The file of a run's data is not the one that the run was launched with, or last read."""

    code = "data_changed"


class RankMismatchError(FlightdeckError):
    """At least one LoRA layer is not what the config asks for."""

    code = "rank_mismatch"


class DiskFullError(FlightdeckError):
    """A file could not be written for want of space."""

    code = "disk_full"


class RunError(FlightdeckError):
    """A run cannot be found, read, or told to do what was asked."""

    code = "run"


class WorkerError(FlightdeckError):
    """The torch process did not answer: it died, ran out of time, or was cancelled."""

    code = "worker"


class ChatError(FlightdeckError):
    """A chat cannot be read or kept, or what is asked in it cannot be answered."""

    code = "chat"


def first_line(error: BaseException) -> str | Message:
    """What another library says of an error, as the reason in a sentence of ours: its first line, else its kind.

    Of a pickle that was refused torch says how to run the code in it all the same; that is not passed on.
    """
    if isinstance(error, pickle.UnpicklingError):
        return Message(N_("a pickled file is damaged or unsafe and was not loaded"))
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:MAX_REASON]
