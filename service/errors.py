"""Everything that can go wrong, in one tree.

AlnetError
├── BadRequest                what the caller asked for cannot be understood
│   ├── BadMultipart              the body is no well-formed multipart/form-data, or lacks its `image`
│   ├── BadParameter              a query parameter, header or option is out of its range
│   ├── NotAcceptable             none of the representations we have is accepted
│   ├── KeyNeeded                 no API key was sent, or one that is not known here
│   └── UploadTooSlow             the body did not arrive within the time allowed
├── BadUpload                 what the caller sent cannot be used
│   ├── UploadTooLarge            more bytes than the body limit
│   ├── ImageTooLarge             more pixels than the pixel limit; found from the header
│   ├── UnknownImageFormat        the bytes are no image of a format we read
│   ├── DamagedImage              a known format, but truncated or broken
│   ├── FrameNeeded               several frames, and none (or none that exists) was picked
│   └── ReferenceMismatch         the reference is not of the image's size
├── UnknownModality           the model store has no such modality
├── Unavailable               the service cannot take this work now
│   ├── Overloaded                the queue is full; try again later
│   ├── RateLimited               this caller has sent more requests than its limit allows
│   ├── NotReady                  starting, or without that modality's checkpoint
│   ├── ShuttingDown              this replica takes no new work
│   ├── MemoryShort               the host has no memory for this upload at the moment
│   ├── DeviceLost                what runs the networks is gone for good; the process ends, to be started anew
│   └── DeadlineExceeded          the caller's deadline (or the server's) passed first
├── EngineFailed              the network could not be run on a sound image
├── BadCheckpoint             the store's files contradict each other, or the engine does not reproduce them
├── QuantisationLoss          in integers a network's masks are too much worse than in float32
├── AlreadyPublished          that version exists; published versions never change
├── BadDataset                a training folder has a fault; the message names the file
├── BadConfig                 a training configuration, or a run to resume, contradicts itself
└── BadSettings               an ALNET_ variable is wrong or unknown

Messages are for the person who reads them: they say what to do next, and never contain pixels or file names of uploads.
"""

from pathlib import Path

LONGEST_LINE = 500
"""The most characters of a text that `in_one_line` keeps."""


def in_one_line(text: str) -> str:
    """Return `text`, whoever wrote it, as one line for logs, terminals and answers.

    Unprintable characters are escaped. A line of more than `LONGEST_LINE` characters loses its middle.
    """
    line = printable(" ".join(text.split()))
    if len(line) <= LONGEST_LINE:
        return line
    end = LONGEST_LINE // 4
    return f"{line[: LONGEST_LINE - end - 3]} … {line[-end:]}"


def printable(text: str) -> str:
    """Return `text` with its unprintable characters, including line breaks, escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def first_line(error: Exception) -> str:
    """Return an error's first informative line; libraries add further lines, files and calls below it."""
    first, *more = str(error).strip().splitlines() or [""]
    return more[0].strip() if first.endswith(":") and more else first


def reason(error: Exception) -> str:
    """Return why something failed, in one line that callers may read."""
    if isinstance(error, AlnetError):
        return in_one_line(str(error))
    return in_one_line(f"{type(error).__name__}: {first_line(error)}".removesuffix(": "))


class AlnetError(Exception):
    """The root; never raised itself."""


class BadRequest(AlnetError):
    """What the caller asked for cannot be understood."""


class BadMultipart(BadRequest):
    """The body is no well-formed multipart/form-data, or lacks its `image`."""


class BadParameter(BadRequest):
    """A query parameter, header or option is out of its range."""


class NotAcceptable(BadRequest):
    """None of the representations we have is accepted."""


class KeyNeeded(BadRequest):
    """No API key was sent, or (`was_sent`) one that is not known here."""

    def __init__(self, message: str, *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class UploadTooSlow(BadRequest):
    """The body did not arrive within the time allowed."""


class BadUpload(AlnetError):
    """What the caller sent cannot be used."""


class UploadTooLarge(BadUpload):
    """More bytes than the body limit."""


class ImageTooLarge(BadUpload):
    """More pixels than the pixel limit; found from the header, before pixels are decoded."""


class UnknownImageFormat(BadUpload):
    """The bytes are no image of a format we read."""


class DamagedImage(BadUpload):
    """A known format, but truncated or broken."""


class FrameNeeded(BadUpload):
    """The image has several frames, and none (or none that exists) was picked."""


class ReferenceMismatch(BadUpload):
    """The reference is not of the image's size."""


class UnknownModality(AlnetError):
    """The model store has no such modality; `store` says where that is, which callers over HTTP are not told."""

    def __init__(self, message: str, *, store: Path | None = None) -> None:
        super().__init__(message)
        self.store = store


class Unavailable(AlnetError):
    """The service cannot take this work now; `retry_after_s` says when to try again."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """The queue is full; try again later."""


class RateLimited(Unavailable):
    """The caller has sent more requests than the rate limit allows; others are not affected."""


class NotReady(Unavailable):
    """Starting, or without that modality's checkpoint."""


class ShuttingDown(Unavailable):
    """No new work is taken: the replica is about to stop."""


class MemoryShort(Unavailable):
    """The host has no memory for this upload at the moment; what is on its way may soon give some back."""


class DeviceLost(Unavailable):
    """What runs the networks is gone for good: the process ends, so that its supervisor starts a new one."""


class DeadlineExceeded(Unavailable):
    """The caller's deadline (or the server's) passed first; what was not begun is not run."""


class EngineFailed(AlnetError):
    """The network could not be run on a sound image."""


class BadCheckpoint(AlnetError):
    """The store's files contradict each other, or the engine does not reproduce them.

    `may_pass`: a file is there but cannot be read now, because a permission, the disk or the network is missing. The
    message goes through `in_one_line`, whatever names and values of a file it quotes.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(in_one_line(message))
        self.may_pass = may_pass


class QuantisationLoss(AlnetError):
    """In integers a network's masks are too much worse than in float32."""


class AlreadyPublished(AlnetError):
    """That version exists; published versions never change."""


class BadDataset(AlnetError):
    """A training folder has a fault; the message names the file."""


class BadConfig(AlnetError):
    """A training configuration, or a run to resume, contradicts itself."""


class BadSettings(AlnetError):
    """An ALNET_ variable is wrong or unknown."""
