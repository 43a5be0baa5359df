"""Answers, and the error bodies of the services: each has its own shape (facts sheet 6.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

Service = Literal["workspace", "ims", "iam", "iam-os", "metadata", "control"]


@dataclass(frozen=True)
class Answer:
    """A status, a body and headers. `body` None: no body; bytes go out as they are, anything else as JSON."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def content(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        return (
            self.body
            if isinstance(self.body, bytes)
            else json.dumps(self.body, ensure_ascii=False).encode(errors="replace")
        )


class ApiError(Exception):
    """An answer with an error status, raised."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class BadValue(Exception):  # noqa: N818 - reads as the fact that it is
    """Something in the request is not as documented: 400, in the shape of the service that it was sent to."""


def workspace_error(status: int, code: str, message: str) -> ApiError:
    """An error of WorkspaceApp."""
    return ApiError(Answer(status, {"error_code": code, "error_msg": message}))


def gateway_error(status: int, code: str, message: str, request_id: str = "") -> ApiError:
    """An error of the API gateway, which tells the request's id in the body too."""
    return ApiError(Answer(status, {"error_msg": message, "error_code": code, "request_id": request_id}))


def ims_error(status: int, code: str, message: str) -> ApiError:
    """An error of IMS."""
    return ApiError(Answer(status, {"error": {"code": code, "message": message}}))


def iam_error(status: int, message: str) -> ApiError:
    """An error of IAM's Keystone interface: its code is a number."""
    title = HTTPStatus(status).phrase
    return ApiError(Answer(status, {"error": {"code": status, "message": message, "title": title}}))


def bad_request(service: Service, message: str) -> ApiError:
    """400 in the shape of a service."""
    match service:
        case "workspace":
            return workspace_error(400, "WKS.00211807", message)
        case "ims":
            return ims_error(400, "IMG.0061", message)
        case "iam":
            return iam_error(400, message)
        case "iam-os":
            return ApiError(Answer(400, {"error_code": "IAM.0011", "error_msg": message}))
        case "metadata":
            return ApiError(Answer(400, message.encode(), content_type="text/plain"))
        case "control":
            return ApiError(Answer(400, {"error": message}))


def fraction_time(moment: datetime) -> str:
    """A time as WorkspaceApp writes it: milliseconds without the zeros at their end, so 0 to 3 digits."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{moment.microsecond // 1000:03d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def second_time(moment: datetime) -> str:
    """A time as IMS writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(moment: datetime) -> str:
    """A time as IAM writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
