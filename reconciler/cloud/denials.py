"""Keeps refused credentials from being sent again and again: that would lock the access key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from reconciler.cloud import problems
from reconciler.cloud.answers import Answer
from reconciler.cloud.operations import Operation
from reconciler.errors import AuthenticationFailed

# More than five authentication failures in a row lock an access key for five minutes (facts 6.2).
MOST_DENIALS = 3


@dataclass(slots=True)
class Turn:
    """Leave to send with the credentials of that `number`. `alone`: nobody else has it."""

    number: int
    alone: bool = False


class Denials:
    """Counts the 401s in a row, and after some of them lets nothing out any more.

    Until the cloud has taken the credentials, and again after each 401, one request goes at a time: sixteen at once
    would lock the key before the first answer is there. Only a good answer proves anything, since a gateway may refuse
    for other reasons before it looks at the credentials.
    """

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last: AuthenticationFailed | None = None
        self._proven = False
        self._one_at_a_time = asyncio.Lock()
        # Which credentials requests are made with now, and how often they were replaced by others.
        self._credentials = 0
        self._number = 0

    def introduce(self, request: httpx.Request) -> int:
        """Learn the credentials of a request that was made ready just now; returns their number.

        With others than before everything begins anew.
        """
        access_key = request.headers.get("Authorization", "").partition(",")[0]
        credentials = hash((access_key, *(request.headers.get(name) for name in ("X-Auth-Token", "X-Security-Token"))))
        if credentials != self._credentials:
            self._credentials, self._number = credentials, self._number + 1
            self._in_a_row, self._proven = 0, False
        return self._number

    @asynccontextmanager
    async def turn(self, number: int) -> AsyncIterator[Turn]:
        """Wait for leave to send, which lasts until what follows from the answer is done, new credentials included."""
        turn = Turn(number)
        try:
            if not self._proven:
                await self._be_alone(turn)
            if self._proven:
                # Somebody proved them while we waited.
                self._release(turn)
            yield turn
        finally:
            self._release(turn)

    async def _be_alone(self, turn: Turn) -> None:
        if not turn.alone:
            await self._one_at_a_time.acquire()
            turn.alone = True

    def _release(self, turn: Turn) -> None:
        if turn.alone:
            turn.alone = False
            self._one_at_a_time.release()

    def stands(self, turn: Turn) -> bool:
        """False where the credentials were refused or replaced meanwhile: the request is to be made ready again."""
        return turn.number == self._number and (turn.alone or self._proven)

    async def count(self, turn: Turn, answer: Answer, refusal: AuthenticationFailed | None) -> None:
        """Take notice of an answer; `refusal` is the error for it where it is a 401.

        Then nobody else sends until this turn is over: it may bring other credentials for all of them.
        """
        # What was said of credentials that are gone says nothing of those that took their place.
        current = turn.number == self._number
        if refusal is None:
            if current and answer.status in answer.operation.good:
                self._in_a_row, self._proven = 0, True
            return
        if current:
            self._proven = False
            if not problems.wants_new_token(answer):
                # An outdated token locks nobody out; wrong keys do.
                self._in_a_row += 1
                self._last = refusal
        await self._be_alone(turn)

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
