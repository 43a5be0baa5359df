"""Every error that imgctl raises on purpose: what happened, and what to do next.

ImgctlError                     exit 1
├── UsageError                  a command line or a setting that cannot be
├── ManifestError               carries every problem of all files
├── StateError                  the state is unreadable, of another version, or bound elsewhere
│   └── StateLocked             exit 5: someone else holds the lock
├── PlanFileError               a saved plan that cannot be used as it is
├── StalePlan                   exit 4: what was approved is not what would be done now
├── NotApproved                 exit 6: declined, not confirmed, or gated
├── TimedOut                    exit 7: before anything was started
└── CloudError                  the cloud said no, or said nothing
    ├── RequestNotSent          definite: the request never left
    │   └── CertificateRefused  and would not leave another time
    ├── OutcomeUnknown          it may have taken effect
    ├── BadAnswer               the answer is not what the API page documents
    └── Refused                 definite: an error status came back
        ├── BadRequest 400, AuthenticationFailed 401, PermissionDenied 403, NotFound 404, Conflict 409,
        └── Throttled 429, ServiceFailed 5xx
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.diagnostics import Diagnostic


class ImgctlError(Exception):
    """A problem that the user can read: `summary` says what and where, `hint` what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, summary: str, *, hint: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.hint = hint


class UsageError(ImgctlError):
    """A flag, variable or setting that cannot be."""


class ManifestError(ImgctlError):
    """The manifest cannot be used; `diagnostics` holds every problem of all its files."""

    def __init__(self, summary: str, diagnostics: Sequence[Diagnostic], *, hint: str = "") -> None:
        super().__init__(summary, hint=hint)
        self.diagnostics = tuple(diagnostics)


class StateError(ImgctlError):
    """The state cannot be read, or must not be used here."""


class StateLocked(StateError):  # noqa: N818 - reads as the fact that it is
    """Another process holds the state's lock."""

    exit_code = 5


class PlanFileError(ImgctlError):
    """A saved plan that is unreadable, edited, incomplete, or of another version."""


class StalePlan(ImgctlError):  # noqa: N818
    """What was approved is not what would be done now; the hint has a line for everything that moved."""

    exit_code = 4


class NotApproved(ImgctlError):  # noqa: N818
    """The plan was declined, nobody could confirm it, or a gate holds it back."""

    exit_code = 6


class TimedOut(ImgctlError):  # noqa: N818
    """`--timeout` passed before anything was started."""

    exit_code = 7


class CloudError(ImgctlError):
    """Something between us and the cloud went wrong.

    `operation` names the call as the API page does (RecreateServerImage); `status` is the HTTP status, 0 where none
    came; `code` and `message` are the cloud's own; `request_id` is what its support asks for.
    """

    def __init__(
        self,
        summary: str,
        *,
        operation: str = "",
        status: int = 0,
        code: str = "",
        message: str = "",
        request_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(summary, hint=hint)
        self.operation = operation
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id


class RequestNotSent(CloudError):  # noqa: N818
    """No connection was established: nothing reached the cloud, so the request may be repeated."""


class CertificateRefused(RequestNotSent):
    """The host did not prove who it is: nothing was sent, and another attempt would end alike."""


class OutcomeUnknown(CloudError):  # noqa: N818
    """The request may have taken effect: an answer never came, or a gateway answered for a silent backend."""


class BadAnswer(CloudError):  # noqa: N818
    """An answer with a good status whose content is not what the API documents."""


class Refused(CloudError):  # noqa: N818
    """The cloud answered with an error status."""


class BadRequest(Refused):
    """400, and every other 4xx without a class of its own."""


class AuthenticationFailed(Refused):
    """401: never repeated; more than five in a row lock an access key for five minutes.

    `renewed`: the credentials that were refused have been replaced since, so the request may be made anew, once.
    """

    renewed = False


class PermissionDenied(Refused):
    """403: the hint names the action and its dependencies."""


class NotFound(Refused):
    """404."""


class Conflict(Refused):
    """409."""


class Throttled(Refused):
    """429, or IMS's own flow control: refused at once, so any request may be repeated.

    `retry_after` is in seconds, None where nothing said.
    """

    def __init__(self, summary: str, *, retry_after: float | None = None, **details: object) -> None:
        super().__init__(summary, **details)  # type: ignore[arg-type]
        self.retry_after = retry_after


class ServiceFailed(Refused):
    """5xx. For a recreate-image request see OutcomeUnknown: a 5xx does not say that nothing was done.

    `retry_after` is in seconds, None where nothing said.
    """

    def __init__(self, summary: str, *, retry_after: float | None = None, **details: object) -> None:
        super().__init__(summary, **details)  # type: ignore[arg-type]
        self.retry_after = retry_after
