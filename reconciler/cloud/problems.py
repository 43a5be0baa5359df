"""Error answers of every shape -> the family in reconciler.errors, with a hint about what to do."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import timedelta
from http import HTTPStatus

from reconciler.cloud.answers import Answer, printable
from reconciler.cloud.clock import parse_http_date
from reconciler.cloud.endpoints import OVERRIDE_ALL, Service
from reconciler.errors import (
    AuthenticationFailed,
    BadRequest,
    Conflict,
    NotFound,
    PermissionDenied,
    Refused,
    ServiceFailed,
    Throttled,
)

LONGEST_MESSAGE = 500
# The gateway refuses a signature whose date is further off than this (facts 3.2).
TOLERATED_SKEW = timedelta(minutes=15)

SERVER_ID_HINT = (
    "check the server_id (the `id` of the image servers' list, not the wksapp-… or the ECS id) and the project"
)

_CODE_AND_MESSAGE = (("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message"))
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_WINDOW = re.compile(r"limit:\s*\d+\s*,\s*time:\s*(\d{1,6})\s*(second|minute|hour)?", re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
# IMS has a code of its own for too many requests (facts 6.4), with the status 400 by its table of error codes.
_FLOW_CONTROL = "IMG.0060"
_NO_SUCH_API = frozenset({"0101", "0103"})
_CLASSES: dict[int, type[Refused]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
}


def clean(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Somebody else's text made fit for a terminal: one short line without control, ANSI and bidi characters."""
    text = " ".join(_ESCAPES.sub("", text).split())
    text = "".join(char for char in text if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    return text if len(text) <= longest else text[: longest - 1] + "…"


def code_and_message(answer: Answer) -> tuple[str, str]:
    """What an error answer says; the order is the SDK's (facts 6.1).

    Without JSON the message is the text or the status' name.
    """
    body = _json(answer)
    if isinstance(body, dict):
        nested = [value for value in body.values() if isinstance(value, dict)]
        for level in (body, *nested):
            for code_name, message_name in _CODE_AND_MESSAGE:
                code, message = _as_text(level.get(code_name)), _as_text(level.get(message_name))
                if code or message:
                    return clean(code, 64), clean(message)
    text = answer.body[: 4 * LONGEST_MESSAGE].decode(errors="replace").strip()
    if body is None and text and not text.startswith("<"):
        return "", clean(text)
    return "", _status_name(answer.status)


def _json(answer: Answer) -> object:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _request_id(answer: Answer) -> str:
    """From the header, or from the body, where the gateway may repeat it (facts 6.1)."""
    body = _json(answer)
    told = body.get("request_id") if isinstance(body, dict) else None
    return answer.request_id or (printable(told) if isinstance(told, str) else "")


def _as_text(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _status_name(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no known status"


def is_no_such_api(error: Refused) -> bool:
    """True where the gateway does not know the API, which says nothing of the thing asked for."""
    return error.status == 405 or _gateway_code(error.code) in _NO_SUCH_API


def _gateway_code(code: str) -> str:
    """The number of an API gateway code: APIGW.0308 and APIG.0308 are the same (facts 6.2)."""
    prefix, _, number = code.partition(".")
    return number if prefix in ("APIGW", "APIG") else ""


def wants_new_token(answer: Answer) -> bool:
    """True where the gateway asks for a newer token (APIGW.0307); it may before the token's time is over."""
    return answer.status == 401 and _gateway_code(code_and_message(answer)[0]) == "0307"


def refusal(answer: Answer, *, advice: str = "", offset: timedelta = timedelta(0)) -> Refused:
    """The error for an answer with an error status.

    `advice` says what to check when the credentials are not accepted; `offset` is the cloud's clock minus ours.
    """
    code, message = code_and_message(answer)
    request_id = _request_id(answer)
    summary = f"{answer.title}: {answer.status} {f'{code} {message}'.strip()}"
    if request_id:
        summary += f" (request id {request_id})"
    details = {
        "operation": answer.operation.name,
        "status": answer.status,
        "code": code,
        "message": message,
        "request_id": request_id,
        "hint": _hint(answer, code, advice, offset),
    }
    if answer.status == 429 or code == _FLOW_CONTROL:
        return Throttled(summary, retry_after=retry_after(answer, message), **details)
    if answer.status >= 500:
        return ServiceFailed(summary, retry_after=retry_after(answer, ""), **details)
    return _CLASSES.get(answer.status, BadRequest)(summary, **details)  # type: ignore[arg-type]


def retry_after(answer: Answer, message: str) -> float | None:
    """Seconds to wait: the Retry-After header, or the window in a 429's message (facts 6.5); None: neither says."""
    told = answer.headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    until, now = parse_http_date(told), parse_http_date(answer.headers.get("date", ""))
    if until and now:
        return max(0.0, (until - now).total_seconds())
    window = _WINDOW.search(message)
    return float(int(window[1]) * _SECONDS[(window[2] or "second").lower()]) if window else None


def _hint(answer: Answer, code: str, advice: str, offset: timedelta) -> str:
    operation, status, number = answer.operation, answer.status, _gateway_code(code)
    if code == "IMG.0015":
        return "the quota of private images is used up: delete images in IMS, or ask for more"
    if number in _NO_SUCH_API:
        return _wrong_host(operation.service)
    if number in ("0801", "0802"):
        return "the service is not available in this region: check the region"
    if number in ("0501", "0502"):
        return "the account's quota is used up, or the account is frozen"
    if status == 401:
        if number == "0307":
            return f"the cloud wants a newer token; run the command again. If that does not help: {advice}"
        return advice + _skew(offset)
    if status == 403 and operation.action:
        return _permissions(operation.action, operation.dependencies)
    if status == 404 and operation.service is Service.WORKSPACEAPP and "{server_id}" in operation.path:
        return SERVER_ID_HINT
    if status == 409:
        return "the server is busy: an image task is running, or it is neither ACTIVE nor BUILT; look at it again later"
    if status == 429 or code == _FLOW_CONTROL:
        return "too many requests: lower --max-requests, or wait"
    return ""


def _wrong_host(service: Service) -> str:
    hint = f"this host does not have the API: check the region, or name another host in {OVERRIDE_ALL}_{service.value}"
    if service is Service.WORKSPACEAPP:
        # The sources disagree outside the five Chinese regions (facts 5.1).
        hint += "; some regions have appstream.REGION.myhuaweicloud.com, others workspace.REGION.myhuaweicloud.com"
    return hint


def _skew(offset: timedelta) -> str:
    if abs(offset) <= TOLERATED_SKEW:
        return ""
    direction = "behind" if offset > timedelta(0) else "ahead of"
    minutes = round(abs(offset) / timedelta(minutes=1))
    return (
        f"; this machine's clock is {minutes} minutes {direction} the cloud's: more than 15 are refused, set it right"
    )


def _permissions(action: str, dependencies: tuple[str, ...]) -> str:
    if not dependencies:
        return f"the permission {action} is needed"
    return f"the permission {action} is needed, and what it depends on: {', '.join(dependencies)}"
