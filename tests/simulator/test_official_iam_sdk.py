"""The official IAM SDK, unchanged: a token by password, projects, a temporary key, and a request signed with that."""

from __future__ import annotations

from typing import Any

import pytest
from huaweicloudsdkiam.v3 import (
    AuthScope,
    AuthScopeProject,
    CreateTemporaryAccessKeyByTokenRequest,
    CreateTemporaryAccessKeyByTokenRequestBody,
    IamClient,
    IdentityToken,
    KeystoneCreateUserTokenByPasswordRequest,
    KeystoneCreateUserTokenByPasswordRequestBody,
    KeystoneListAuthProjectsRequest,
    KeystoneListProjectsRequest,
    PwdAuth,
    PwdIdentity,
    PwdPassword,
    PwdPasswordUser,
    PwdPasswordUserDomain,
    TokenAuth,
    TokenAuthIdentity,
)
from huaweicloudsdkiam.v3.iam_credentials import IamCredentials
from huaweicloudsdkims.v2 import ImsClient, ShowImageQuotaRequest
from huaweicloudsdkworkspaceapp.v1 import ListImageServersRequest, WorkspaceAppClient

from tests.simulator.sdk import QUIET, Sdk, refused

pytestmark = QUIET


def token_by_password(sdk: Sdk, *, password: str = "", project: str = "") -> Any:
    world = sdk.world
    user = PwdPasswordUser(
        name=world.user_name, password=password or world.password, domain=PwdPasswordUserDomain(name=world.domain_name)
    )
    auth = PwdAuth(
        identity=PwdIdentity(methods=["password"], password=PwdPassword(user=user)),
        scope=AuthScope(project=AuthScopeProject(name=project or world.region)),
    )
    # Nobody is anybody before this call.
    client = sdk.make(IamClient, IamCredentials(""))
    body = KeystoneCreateUserTokenByPasswordRequestBody(auth=auth)
    return client.keystone_create_user_token_by_password(
        KeystoneCreateUserTokenByPasswordRequest(nocatalog="true", body=body)
    )


def test_a_token_by_password(sdk: Sdk) -> None:
    answer = token_by_password(sdk)
    assert answer.status_code == 201
    assert answer.x_subject_token in sdk.world.tokens
    token = answer.token
    assert (token.project.id, token.project.name) == (sdk.world.project_id, sdk.world.region)
    assert (token.user.name, token.user.domain.name, token.methods) == (
        sdk.world.user_name,
        sdk.world.domain_name,
        ["password"],
    )
    assert token.expires_at > token.issued_at
    # Its errors have a number for a code, which the SDK takes for none at all.
    for wrong in ({"password": "wrong"}, {"project": "cn-north-4"}):
        assert refused(lambda wrong=wrong: token_by_password(sdk, **wrong))[0] == 401  # type: ignore[misc]


def test_projects(sdk: Sdk) -> None:
    world = sdk.world
    token = token_by_password(sdk).x_subject_token
    for credentials in (IamCredentials(token), sdk.keys()):
        iam = sdk.make(IamClient, credentials)
        (project,) = iam.keystone_list_projects(KeystoneListProjectsRequest(name=world.region)).projects
        assert (project.id, project.name, project.enabled) == (world.project_id, world.region, True)
        assert iam.keystone_list_projects(KeystoneListProjectsRequest(name="cn-north-4")).projects == []
        (own,) = iam.keystone_list_auth_projects(KeystoneListAuthProjectsRequest()).projects
        assert own.id == world.project_id


def temporary_key(sdk: Sdk, token: str, seconds: int) -> Any:
    identity = TokenAuthIdentity(methods=["token"], token=IdentityToken(duration_seconds=seconds))
    body = CreateTemporaryAccessKeyByTokenRequestBody(auth=TokenAuth(identity=identity))
    iam = sdk.make(IamClient, IamCredentials(token))
    request = CreateTemporaryAccessKeyByTokenRequest(body=body)
    return iam.create_temporary_access_key_by_token(request).credential


def test_a_temporary_key_signs(sdk: Sdk) -> None:
    token = token_by_password(sdk).x_subject_token
    key = temporary_key(sdk, token, 900)
    signed = sdk.keys(access=key.access, secret=key.secret).with_security_token(key.securitytoken)
    assert sdk.make(WorkspaceAppClient, signed).list_image_servers(ListImageServersRequest()).count == 12
    assert sdk.make(ImsClient, signed).show_image_quota(ShowImageQuotaRequest()).status_code == 200
    bare = sdk.make(WorkspaceAppClient, sdk.keys(access=key.access, secret=key.secret))
    assert refused(lambda: bare.list_image_servers(ListImageServersRequest())) == (401, "APIGW.0301")
    another = temporary_key(sdk, token, 86400)
    mixed = sdk.keys(access=key.access, secret=key.secret).with_security_token(another.securitytoken)
    client = sdk.make(WorkspaceAppClient, mixed)
    assert refused(lambda: client.list_image_servers(ListImageServersRequest())) == (401, "APIGW.0301")


@pytest.mark.parametrize("seconds", [899, 86401])
def test_a_temporary_key_lasts_from_a_quarter_of_an_hour_to_a_day(sdk: Sdk, seconds: int) -> None:
    token = token_by_password(sdk).x_subject_token
    assert refused(lambda: temporary_key(sdk, token, seconds)) == (400, "IAM.0011")


def test_a_token_that_is_none(sdk: Sdk) -> None:
    assert refused(lambda: temporary_key(sdk, "wrong", 900)) == (401, "APIGW.0301")
