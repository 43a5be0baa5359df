"""The metadata service of an ECS instance (facts sheet 4.3): its tokens, and the temporary keys of its agency.

PATCH /_simulator/metadata   {"key_life": seconds, "agency": bool, "tokens": "none", "optional" or "required"}
"""

from __future__ import annotations

import re
from datetime import timedelta

from reconciler.simulator import catalogue
from reconciler.simulator.answers import Answer, ApiError, BadValue, micro_time
from reconciler.simulator.calls import Call, Operation
from reconciler.simulator.control import checked_fields
from reconciler.simulator.identity import new_temporary_key

MOST_TOKEN_SECONDS = 21_600
_USES = ("none", "optional", "required")


def _refusal(status: int, text: str) -> ApiError:
    return ApiError(Answer(status, text.encode(), content_type="text/plain"))


def create_token(call: Call) -> Answer:
    """A token of the metadata service, for as many seconds as the header says."""
    instance = call.world.instance
    if instance.tokens == "none":
        raise _refusal(404, "404 Not Found")
    seconds = call.headers.get("x-metadata-token-ttl-seconds", "")
    if not re.fullmatch(r"[0-9]{1,6}", seconds) or not 1 <= int(seconds) <= MOST_TOKEN_SECONDS:
        raise BadValue(f"X-Metadata-Token-Ttl-Seconds must be a number from 1 to {MOST_TOKEN_SECONDS}")
    token = "simulated-metadata-token-" + catalogue.hex_of(call.world.seed, "metadata-token", call.world.number())
    instance.issued[token] = call.now + timedelta(seconds=int(seconds))
    return Answer(200, token.encode(), content_type="text/plain")


def show_security_key(call: Call) -> Answer:
    """The agency's temporary keys; the same ones until half of their life is over."""
    instance, world = call.world.instance, call.world
    token = call.headers.get("x-metadata-token", "")
    if token or instance.tokens == "required":
        ends = instance.issued.get(token)
        if ends is None or ends <= call.now:
            raise _refusal(401, "Unauthorized: the token is invalid")
    if not instance.agency:
        raise _refusal(401, "Please configure Cloud Service Agency first")
    life = timedelta(seconds=instance.key_life)
    key, since = instance.key, instance.key_since
    if key is None or since is None or since + life / 2 <= call.now:
        # Not a change to be saved at once: looking must not write a world that another process changes.
        key = instance.key = new_temporary_key(world, call.now, life)
        instance.key_since = call.now
    credential = {
        "access": key.access,
        "secret": key.secret,
        "securitytoken": key.security_token,
        "expires_at": micro_time(key.expires_at or call.now),
    }
    return Answer(200, {"credential": credential})


def change_instance(call: Call) -> Answer:
    """Make the keys short-lived, take the agency away, or have the service be of another version."""
    fields = checked_fields(call, key_life=float, agency=bool, tokens=str)
    instance = call.world.instance
    use = fields.get("tokens", instance.tokens)
    if use not in _USES:
        raise BadValue(f"tokens must be {', '.join(_USES)}")
    instance.tokens = use  # type: ignore[assignment]
    instance.agency = bool(fields.get("agency", instance.agency))
    instance.key_life = float(str(fields.get("key_life", instance.key_life)))
    # The keys of another life, or of no agency, are not given away any more.
    instance.key = None
    return Answer(204)


OPERATIONS = (
    Operation("PUT", "/meta-data/latest/api/token", "metadata", create_token, access="none", regional=False),
    Operation("GET", "/openstack/latest/securitykey", "metadata", show_security_key, access="none", regional=False),
    Operation("PATCH", "/_simulator/metadata", "control", change_instance, access="none", regional=False),
)
