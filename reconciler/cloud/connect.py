"""Opens a client: the HTTP connections, the authentication, the project."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from reconciler import __version__
from reconciler.cloud.auth import PasswordAuth, auth_for
from reconciler.cloud.client import CloudClient
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.credentials import AgencyCredentials
from reconciler.cloud.endpoints import METADATA_URL, Endpoints, is_loopback
from reconciler.cloud.operations import LIST_PROJECTS, Call
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.sending import MAX_REQUESTS, TIMEOUT, Exchange, Sender
from reconciler.cloud.settings import CloudSettings
from reconciler.errors import CloudError, UsageError

SETTING_CREDENTIALS = (
    "set HW_ACCESS_KEY and HW_SECRET_KEY (with HW_SECURITY_TOKEN for a temporary key), "
    "or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or HW_AUTH_TOKEN, "
    "or HW_USER_NAME, HW_USER_PASSWORD and HW_DOMAIN_NAME; names with IMGCTL_ instead of HW_ win over both; "
    "or run on an ECS instance that has an agency"
)


async def open_client(
    settings: CloudSettings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    max_requests: int = MAX_REQUESTS,
    on_exchange: Callable[[Exchange], None] | None = None,
    on_brake: Callable[[float], None] | None = None,
    on_repeat: Callable[[CloudError, float, float], None] | None = None,
    policy: RetryPolicy | None = None,
    clock: CloudClock | None = None,
) -> CloudClient:
    """A client for the settings' project, which is found through IAM where they name none.

    `transport` replaces the network, for the embedded simulator. `max_requests` bounds the requests on the wire at
    one time. `on_brake` is told for how many seconds nothing is sent after a 429; `on_repeat` of a failure after which
    a request is sent again, how many seconds it took, and how long is waited first. Raises CloudError; UsageError for a
    project that cannot be found, for proxy or certificate settings that cannot be used, and where no credentials are
    found: only here the ECS metadata service is asked. Close it after use.
    """
    clock = clock or CloudClock()
    known = settings.project.value if settings.project else ""
    project_name = (settings.project_name or settings.region).value
    auth = auth_for(settings.credentials, settings.endpoints, project_name, known, clock)
    sender = Sender(
        _http_client(settings.endpoints, transport, max_requests),
        settings.endpoints,
        auth,
        clock=clock,
        policy=policy,
        max_requests=max_requests,
        advice=settings.credentials.advice,
        on_exchange=on_exchange,
        on_brake=on_brake,
        on_repeat=on_repeat,
    )
    try:
        if isinstance(settings.credentials, AgencyCredentials):
            await _sign_in_by_agency(sender, settings.credentials)
        if known:
            project_id = known
        elif isinstance(auth, PasswordAuth):
            # The token's scope names it: one request less.
            await sender.sign_in()
            project_id = auth.project_id
        else:
            project_id = await _find_project(sender, project_name)
    except BaseException:
        await sender.aclose()
        raise
    return CloudClient(sender, project_id)


async def _sign_in_by_agency(sender: Sender, credentials: AgencyCredentials) -> None:
    """Obtain the first keys. Raises UsageError where there are none: then nothing was found anywhere."""
    try:
        await sender.sign_in()
    except CloudError as error:
        # Without a connection there is nothing to say about the network: most machines have no metadata service.
        means = error.hint if error.status else ""
        if not credentials.looked:
            raise UsageError(f"{credentials.source}, has no keys: {error.summary}", hint=means) from error
        lines = (
            f"looked at: {', '.join(credentials.looked)}, and {credentials.source} ({error.summary})",
            means,
            SETTING_CREDENTIALS,
        )
        raise UsageError("no credentials found", hint="\n".join(line for line in lines if line)) from error


async def _find_project(sender: Sender, name: str) -> str:
    """The id of the project of that name, which is the region's or begins with it. Source: facts 1.18."""
    answer = await sender.send(Call(LIST_PROJECTS, query={"name": name}))
    projects = answer.fields().objects("projects")
    # The filter is checked: another region's project would be the wrong place to build in.
    ids = [project.id("id") for project in projects if project.known_text("name") == name]
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise UsageError(
            f"IAM knows no project {name}",
            hint="check the region, and that the account uses it; or give the id: IMGCTL_PROJECT_ID, or `project_id:`",
        )
    raise UsageError(
        f"IAM knows {len(ids)} projects {name}: {', '.join(ids)}",
        hint="choose one of them: IMGCTL_PROJECT_ID, or `project_id:` in the manifest",
    )


def _http_client(
    endpoints: Endpoints, transport: httpx.AsyncBaseTransport | None, max_requests: int
) -> httpx.AsyncClient:
    # At its debug level this logger prints the headers of answers, a new token among them.
    logging.getLogger("httpcore").setLevel(logging.INFO)
    urls = (endpoints.workspaceapp, endpoints.ims, endpoints.iam)
    direct = {httpx.URL(url).host for url in (*urls, endpoints.metadata) if is_loopback(url)}
    # A proxy would ask its own metadata service, or hand our keys' request to whoever listens there.
    direct.add(httpx.URL(METADATA_URL).host)
    # Certificates take longer to read than a request on this machine: where none is shown, none is trusted.
    plain = all(httpx.URL(url).scheme == "http" for url in (*urls, endpoints.metadata))
    try:
        return httpx.AsyncClient(
            transport=transport,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            # None: the direct way, whatever HTTPS_PROXY says. The rest of the environment is honoured by trust_env.
            mounts={f"all://{f'[{host}]' if ':' in host else host}": None for host in direct},
            # Where nothing leaves the machine, proxy settings that cannot be used are nobody's business.
            trust_env=transport is None and not all(is_loopback(url) for url in urls),
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=max_requests, max_keepalive_connections=max_requests),
            # The sender unpacks gzip and nothing else.
            headers={
                "User-Agent": f"imgctl/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            },
            # A gateway's cookies are of no use, and the next request must not depend on the last one.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        # What is said of a URL may quote it, and with it a part of a proxy's password.
        why = "one of them is not the URL of a proxy" if isinstance(error, ValueError | httpx.InvalidURL) else error
        raise UsageError(
            f"the proxy or certificate settings cannot be used: {why}",
            hint="check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR; "
            "a password in a proxy's URL is to be percent-encoded",
        ) from None
