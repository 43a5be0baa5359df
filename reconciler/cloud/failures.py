"""httpx's exceptions -> ours: the one place that knows what each of them says about the request's fate."""

from __future__ import annotations

import ssl

import httpx

from reconciler.cloud.operations import Operation
from reconciler.cloud.problems import clean
from reconciler.errors import BadAnswer, CertificateRefused, CloudError, OutcomeUnknown, RequestNotSent

# Everything that sending may raise. OSError has TimeoutError below it, and what httpx leaves untranslated.
FOREIGN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict, OSError)

SILENT = "it takes connections and says nothing: check IMGCTL_ENDPOINT, HTTPS_PROXY and NO_PROXY, or wait"
_PROXY = "check HTTPS_PROXY and NO_PROXY"
_CERTIFICATE = (
    f"{_PROXY}; where a proxy of your own opens TLS, or the endpoint is your own, name its authority in SSL_CERT_FILE"
)
_REACH = (
    f"check the network, the region and IMGCTL_ENDPOINT; {_PROXY}; a certificate of your own goes into SSL_CERT_FILE"
)

# What happened in words, what it means, what to do. A subclass without a row of its own takes its parent's.
_MEANING: dict[type[BaseException], tuple[str, type[CloudError], str]] = {
    httpx.ConnectTimeout: ("no connection in time", RequestNotSent, _REACH),
    httpx.ConnectError: ("no connection", RequestNotSent, _REACH),
    httpx.PoolTimeout: ("no free connection", RequestNotSent, ""),
    # A tunnel that was not opened: the request waits behind it.
    httpx.ProxyError: ("the proxy refused", RequestNotSent, _PROXY),
    httpx.UnsupportedProtocol: ("not an http(s) URL", RequestNotSent, ""),
    httpx.InvalidURL: ("not a URL", RequestNotSent, ""),
    httpx.ReadTimeout: ("no answer in time", OutcomeUnknown, SILENT),
    httpx.WriteTimeout: ("the request could not be sent in time", OutcomeUnknown, ""),
    httpx.ReadError: ("the connection was lost", OutcomeUnknown, ""),
    httpx.WriteError: ("the connection was lost", OutcomeUnknown, ""),
    httpx.CloseError: ("the connection was lost", OutcomeUnknown, ""),
    httpx.RemoteProtocolError: ("the connection was lost, or its peer does not speak HTTP", OutcomeUnknown, ""),
    # Ours, but part of the request may be out already.
    httpx.LocalProtocolError: ("the request could not be sent", OutcomeUnknown, ""),
    httpx.DecodingError: ("the answer's encoding is broken", BadAnswer, ""),
    httpx.TooManyRedirects: ("too many redirects", BadAnswer, ""),
    httpx.HTTPStatusError: ("an error status", BadAnswer, ""),
    httpx.CookieConflict: ("conflicting cookies", BadAnswer, ""),
    httpx.StreamConsumed: ("the answer could not be read", OutcomeUnknown, ""),
    httpx.StreamClosed: ("the answer could not be read", OutcomeUnknown, ""),
    httpx.ResponseNotRead: ("the answer could not be read", OutcomeUnknown, ""),
    httpx.RequestNotRead: ("the request could not be read", OutcomeUnknown, ""),
    httpx.HTTPError: ("the exchange failed", OutcomeUnknown, ""),
    httpx.StreamError: ("the answer could not be read", OutcomeUnknown, ""),
    TimeoutError: ("no complete answer in time", OutcomeUnknown, SILENT),
    OSError: ("the connection failed", OutcomeUnknown, ""),
}


def _is_certificate(error: BaseException | None) -> bool:
    """True where a certificate is what went wrong; httpx keeps that in the cause of its own error."""
    for _ in range(8):
        if error is None or isinstance(error, ssl.SSLCertVerificationError):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, ssl.SSLCertVerificationError)


def translate(error: BaseException, operation: Operation, title: str) -> CloudError:
    """Our error for one of FOREIGN. What is not certainly unsent may have taken effect."""
    if _is_certificate(error):
        summary = f"{title}: the host's certificate is not trusted ({clean(str(error), 200)})"
        return CertificateRefused(summary, operation=operation.name, hint=_CERTIFICATE)
    known = next(base for base in type(error).__mro__ if base in _MEANING)
    words, kind, hint = _MEANING[known]
    detail = clean(str(error), 200)
    return kind(f"{title}: {words}" + (f" ({detail})" if detail else ""), operation=operation.name, hint=hint)
