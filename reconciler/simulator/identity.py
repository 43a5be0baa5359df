"""IAM: tokens, projects and temporary keys (facts sheet 1.17 to 1.19), and the check of both kinds of credential."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from reconciler.simulator import catalogue
from reconciler.simulator.answers import Answer, BadValue, gateway_error, iam_error, micro_time
from reconciler.simulator.calls import Call, Operation
from reconciler.simulator.records import Key, Token
from reconciler.simulator.signing import SignatureError, Signed, parse_authorization, verify
from reconciler.simulator.world import TOKEN_LIFE, World

# More failures in a row than this lock an access key for so long (facts sheet 6.2).
MOST_FAILURES = 5
LOCK = timedelta(minutes=5)
_WRONG = "Incorrect IAM authentication information: "


def check_token(world: World, text: str, now: datetime) -> Token:
    """The token, if it is known and has not expired. Raises ApiError 401."""
    token = world.tokens.get(text)
    if token is None:
        raise gateway_error(401, "APIGW.0301", _WRONG + "decrypt token fail")
    if token.expires_at <= now:
        raise gateway_error(401, "APIGW.0307", "The token must be updated.")
    return token


def check_signature(world: World, request: Signed, now: datetime) -> Key:
    """The access key that signed the request. Raises ApiError 401; too many in a row lock the key for a while."""
    try:
        authorization = parse_authorization(request.headers["authorization"])
    except SignatureError as error:
        raise gateway_error(401, "APIGW.0301", _WRONG + str(error)) from None
    key = world.keys.get(authorization.access)
    if key is None:
        raise gateway_error(
            401, "APIGW.0301", f"{_WRONG}Get secretKey failed,ak:{authorization.access},err:ak not exist"
        )
    if key.locked_until is not None and now < key.locked_until:
        raise gateway_error(401, "APIGW.0301", _WRONG + "AK access failed to reach the limit,forbidden")
    try:
        verify(request, authorization, key.secret, now)
        _check_security_token(key, request.headers, now)
    except SignatureError as error:
        key.failures += 1
        if key.failures > MOST_FAILURES:
            key.failures, key.locked_until = 0, now + LOCK
        code = "APIGW.0303" if error.skewed else "APIGW.0301"
        raise gateway_error(401, code, _WRONG + str(error)) from None
    key.failures, key.locked_until = 0, None
    return key


def _check_security_token(key: Key, headers: Mapping[str, str], now: datetime) -> None:
    given = headers.get("x-security-token", "").strip()
    if not hmac.compare_digest(given.encode(), key.security_token.encode()):
        raise SignatureError("the security token does not belong to the access key")
    if key.expires_at is not None and key.expires_at <= now:
        raise SignatureError("the security token has expired")


def _part(body: object, *names: str) -> object:
    """What stands in nested objects under these names; None where it is not there."""
    for name in names:
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    return body


def create_token(call: Call) -> Answer:
    """KeystoneCreateUserTokenByPassword. The token is in the X-Subject-Token header."""
    body, world = call.json_object(), call.world
    if _part(body, "auth", "identity", "methods") != ["password"]:
        raise BadValue("Expecting to find auth.identity.methods with the value password")
    if not _is_user(world, _part(body, "auth", "identity", "password", "user")):
        raise iam_error(401, "The username or password is wrong.")
    domain = {"id": world.domain_id, "name": world.domain_name}
    scope = _scope(call, body)
    token = Token(
        text="simulated-token-" + catalogue.hex_of(world.seed, "token", world.number()) * 4,
        project_id=world.project_id if scope == "project" else "",
        issued_at=call.now,
        expires_at=call.now + TOKEN_LIFE,
    )
    # Not a change to be saved at once: a process that only looks must not write a world that another one changes.
    world.tokens[token.text] = token
    described: dict[str, object] = {
        "catalog": [],
        "methods": ["password"],
        "issued_at": micro_time(token.issued_at),
        "expires_at": micro_time(token.expires_at),
        "roles": [{"id": "0", "name": "te_admin"}],
        "user": {"id": world.user_id, "name": world.user_name, "password_expires_at": "", "domain": domain},
    }
    if scope == "project":
        described["project"] = {"id": world.project_id, "name": world.region, "domain": domain}
    else:
        described["domain"] = domain
    return Answer(201, {"token": described}, {"X-Subject-Token": token.text})


def _is_user(world: World, user: object) -> bool:
    """True where the user, by id or by name and domain, gave the right password. Raises BadValue where parts lack."""
    password = _part(user, "password")
    if not isinstance(password, str):
        raise BadValue("Expecting to find the password of the user")
    if _part(user, "id") is not None:
        return (_part(user, "id"), password) == (world.user_id, world.password)
    domain = _part(user, "domain", "name") or _part(user, "domain", "id")
    if not isinstance(_part(user, "name"), str) or not isinstance(domain, str):
        raise BadValue("Expecting to find the user's id, or its name and domain")
    known = (world.domain_name, world.domain_id)
    return (_part(user, "name"), password) == (world.user_name, world.password) and domain in known


def _scope(call: Call, body: object) -> str:
    world = call.world
    project = _part(body, "auth", "scope", "project")
    if project is not None:
        name, project_id = _part(project, "name"), _part(project, "id")
        if (name, project_id) not in ((world.region, None), (None, world.project_id), (world.region, world.project_id)):
            raise iam_error(401, "The project does not exist or the user has no access to it.")
        return "project"
    # Without a scope a token is the domain's, which is what IAM documents.
    domain = _part(body, "auth", "scope", "domain")
    if domain is not None and world.domain_name != _part(domain, "name") and world.domain_id != _part(domain, "id"):
        raise iam_error(401, "The domain does not exist or the user has no access to it.")
    return "domain"


def _projects(call: Call, *, with_name: str = "") -> Answer:
    world = call.world
    here = f"http://{call.headers.get('host', '')}"
    projects = [
        {
            "id": world.project_id,
            "name": world.region,
            "enabled": True,
            "is_domain": False,
            "domain_id": world.domain_id,
            "parent_id": world.domain_id,
            "description": "",
            "links": {"self": f"{here}/v3/projects/{world.project_id}"},
        }
    ]
    shown = [each for each in projects if with_name in ("", each["name"])]
    path = call.operation.partition(" ")[2]
    return Answer(200, {"links": {"self": here + path, "next": None, "previous": None}, "projects": shown})


def list_projects(call: Call) -> Answer:
    """KeystoneListProjects, with the filters that are documented."""
    world = call.world
    if ("page" in call.query) != ("per_page" in call.query):
        raise BadValue("page and per_page must be given together")
    page = call.number("page", 1, 1, 2_147_483_647)
    call.number("per_page", 5000, 1, 5000)
    wanted = {"domain_id": world.domain_id, "parent_id": world.domain_id, "enabled": "true"}
    odd = [name for name, value in wanted.items() if call.query.get(name, value).lower() != value]
    answer = _projects(call, with_name=call.query.get("name", ""))
    if odd or page > 1:
        return _projects(call, with_name="\n")
    return answer


def list_own_projects(call: Call) -> Answer:
    """KeystoneListAuthProjects: those that the caller may use; no filters."""
    return _projects(call)


def new_temporary_key(world: World, now: datetime, life: timedelta) -> Key:
    """A temporary access key that the gateway takes until its life is over."""
    name = catalogue.hex_of(world.seed, "temporary-key", world.number())
    key = Key(
        access=f"SIMULATED{name[:11].upper()}",
        secret=f"simulated-secret-not-a-secret-{name[:10]}",
        security_token=f"simulated-security-token-{name * 4}",
        expires_at=now + life,
    )
    world.keys[key.access] = key
    return key


def create_temporary_key(call: Call) -> Answer:
    """CreateTemporaryAccessKeyByToken: an access key, its secret and its security token, for 15 minutes to a day."""
    body, world = call.json_object(), call.world
    if _part(body, "auth", "identity", "methods") != ["token"]:
        raise BadValue("auth.identity.methods must be token")
    seconds = _part(body, "auth", "identity", "token", "duration_seconds")
    seconds = 900 if seconds is None else seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 900 <= seconds <= 86400:
        raise BadValue("duration_seconds must be a number from 900 to 86400")
    key = new_temporary_key(world, call.now, timedelta(seconds=seconds))
    credential = {
        "access": key.access,
        "secret": key.secret,
        "securitytoken": key.security_token,
        "expires_at": micro_time(call.now + timedelta(seconds=seconds)),
    }
    return Answer(201, {"credential": credential})


OPERATIONS = (
    Operation("POST", "/v3/auth/tokens", "iam", create_token, access="none", regional=False),
    Operation("GET", "/v3/projects", "iam", list_projects, regional=False),
    Operation("GET", "/v3/auth/projects", "iam", list_own_projects, regional=False),
    Operation(
        "POST", "/v3.0/OS-CREDENTIAL/securitytokens", "iam-os", create_temporary_key, access="token", regional=False
    ),
)
