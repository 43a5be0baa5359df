"""Keeps refused credentials from being sent again and again: that would lock the access key."""

from __future__ import annotations

from reconciler.cloud import problems
from reconciler.cloud.answers import Answer
from reconciler.cloud.operations import Operation
from reconciler.errors import AuthenticationFailed

# More than five authentication failures in a row lock an access key for five minutes (facts 6.2).
MOST_DENIALS = 3


class Denials:
    """Counts the 401s in a row; after some of them nothing is to be sent any more."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last: AuthenticationFailed | None = None

    def forget(self) -> None:
        """After a new token: what was refused is gone."""
        self._in_a_row = 0

    def count(self, answer: Answer, refusal: AuthenticationFailed | None) -> None:
        """Takes notice of an answer; `refusal` is the error for it where it is a 401."""
        if refusal is None:
            self._in_a_row = 0
        elif not problems.wants_new_token(answer):
            # An outdated token locks nobody out; wrong keys do.
            self._in_a_row += 1
            self._last = refusal

    def check(self, operation: Operation, title: str) -> None:
        """Raises AuthenticationFailed where the request would be one too many."""
        last = self._last
        if self._in_a_row >= MOST_DENIALS and last is not None:
            raise AuthenticationFailed(
                f"{title}: not sent after {self._in_a_row} refused ones; the last was {last.summary}",
                operation=operation.name,
                status=last.status,
                code=last.code,
                message=last.message,
                request_id=last.request_id,
                hint=last.hint,
            )
