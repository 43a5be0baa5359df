"""Reading Terraform's state: its addresses, what can be wrong with it, and nothing else of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import UsageError
from reconciler.manifest.tfstate import MAX_BYTES, TerraformState, read_tfstate
from tests.support import examples
from tests.tfstates import SECRET, image, instance, resource, tfstate

SERVER = "huaweicloud_workspace_app_image_server"


def read(text: str) -> TerraformState:
    return read_tfstate(text.encode(), "terraform.tfstate")


@pytest.mark.parametrize(
    ("module", "name", "key", "address", "plain", "suggestion"),
    [
        (None, "office", None, "huaweicloud_workspace_app_image.office", "", "office"),
        (None, "cad", 0, "huaweicloud_workspace_app_image.cad[0]", "", "cad-0"),
        (None, "this", None, "huaweicloud_workspace_app_image.this", "", "this"),
        (None, "this", "前台", 'huaweicloud_workspace_app_image.this["前台"]', "", "前台"),
        (
            'module.images["eu"].module.x[0]',
            "this",
            "office",
            'module.images["eu"].module.x[0].huaweicloud_workspace_app_image.this["office"]',
            "module.images.module.x.huaweicloud_workspace_app_image.this",
            "images-eu-x-0-office",
        ),
        (
            'module.a["x.y[z]\\"]"]',
            "i",
            'a"b\\c${d}%{e}',
            'module.a["x.y[z]\\"]"].huaweicloud_workspace_app_image.i["a\\"b\\\\c$${d}%%{e}"]',
            "module.a.huaweicloud_workspace_app_image.i",
            "a-x-y-z-i-a-b-c-d-e",
        ),
    ],
)
def test_addresses_are_terraforms_own(
    module: str | None, name: str, key: object, address: str, plain: str, suggestion: str
) -> None:
    (found,) = read(tfstate(resource(name, image("i1", "s1", key), module=module))).images
    assert found.address == address
    assert found.resource == plain or (not plain and found.resource == address.partition("[")[0])
    assert found.suggestion == suggestion
    assert (found.id, found.server_id, found.region) == ("i1", "s1", "ap-southeast-1")


def test_tainted_and_deposed_objects_and_servers() -> None:
    state = read(
        tfstate(
            resource("office", image("i1", "s1", status="tainted"), image("i0", "s1", deposed="0123abcd")),
            resource("office", instance({"id": "s1", "name": "office"}), kind=SERVER),
        )
    )
    assert [(one.id, one.deposed) for one in state.images] == [("i1", False), ("i0", True)]
    assert len({one.address for one in state.images}) == 1
    assert state.servers == {"s1": f"{SERVER}.office"}


def test_old_flat_attributes_and_absent_regions() -> None:
    flat = {"schema_version": 0, "attributes_flat": {"id": "i1", "server_id": "s1", "name": "n"}}
    (found,) = read(tfstate(resource("office", flat))).images
    assert (found.id, found.region, found.name) == ("i1", "", "n")


@pytest.mark.parametrize(
    ("marked", "name", "description"),
    [
        ([], "asked-for", "why"),
        ([[{"type": "get_attr", "value": "description"}]], "asked-for", ""),
        ([[{"type": "get_attr", "value": "name"}]], "", "why"),
        ([["?"]], "", ""),
        ("?", "", ""),
        (None, "asked-for", "why"),
    ],
)
def test_what_terraform_calls_sensitive_is_not_read(marked: object, name: str, description: str) -> None:
    one = image("i1", "s1")
    one["attributes"]["description"] = "why"
    one["sensitive_attributes"] = marked
    (found,) = read(tfstate(resource("office", one))).images
    assert (found.name, found.description) == (name, description)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_a_shell_on_windows_writes_is_read(encoding: str) -> None:
    content = tfstate(resource("office", image("i1", "s1", "办公"))).encode(encoding)
    assert read_tfstate(content, "x").images[0].address.endswith('["办公"]')


def test_what_cannot_be_taken_over_is_named() -> None:
    state = read(
        tfstate(
            resource("a", image("", "s1"), image("i2", "../s2", "k"), image("i3", "s3", "fine")),
            resource("b", {"index_key": 1, "schema_version": 0}),
            resource("c", image("i4", "s4", 1.5)),
        )
    )
    kind = "huaweicloud_workspace_app_image"
    assert state.unusable == (
        f"{kind}.a has no id that could be one",
        f'{kind}.a["k"] has no server_id that could be one',
        f"{kind}.b[1] has no attributes in the state",
        f"{kind}.c is damaged in the state",
    )
    assert state.incomplete == {f"{kind}.a", f"{kind}.b", f"{kind}.c"}
    assert [one.id for one in state.images] == ["i3"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 10_000, "is not JSON"),
        ("[]", "is no Terraform state"),
        ("{}", "is no Terraform state"),
        ('{"version": "4"}', "is no Terraform state"),
        ('{"version": true}', "is no Terraform state"),
        ('{"version": 4}', "is no Terraform state"),
        ('{"version": 4, "resources": {}}', "is no Terraform state"),
        ('{"version": 3, "modules": []}', "version 3: Terraform 0.11 or older"),
        ('{"version": 5, "resources": []}', "reads version 4"),
        ('{"format_version": "1.0", "values": {}}', "output of terraform show"),
        ('{"encrypted_data": "x", "encryption_version": "v0"}', "is encrypted"),
        (
            '{"version": 4, "resources": [{"mode": "managed", "type": "' + SERVER + '", "name": "a b"}]}',
            "resources[0] is no resource as Terraform writes one",
        ),
    ],
)
def test_what_is_no_state_says_what_to_do(content: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(content)
    assert said in caught.value.summary
    assert "terraform.tfstate" in caught.value.summary
    assert caught.value.hint


def test_a_state_has_a_bounded_size() -> None:
    with pytest.raises(UsageError, match="more than 64 MiB"):
        read_tfstate(b" " * (MAX_BYTES + 1), "x")


def test_nothing_else_of_it_is_kept() -> None:
    one = image("i1", "s1")
    one["attributes"]["description"] = SECRET
    one["sensitive_attributes"] = [[{"type": "get_attr", "value": "description"}]]
    assert SECRET not in repr(read(tfstate(resource("office", one))))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_garbage_is_an_error_and_nothing_worse(content: bytes) -> None:
    with pytest.raises(UsageError):
        read_tfstate(content, "x")


@settings(max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_state_with_anything_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    document: Any = json.loads(tfstate(resource("a", image("i1", "s1", "k"), module='module.m["x"]')))
    place: Any = document
    # Somewhere on the way down to the attributes something else stands.
    for step in ("resources", 0, "instances", 0, "attributes"):
        keys = list(place) if isinstance(place, dict) else [0]
        if data.draw(st.booleans()):
            place[data.draw(st.sampled_from(keys))] = data.draw(json_values)
            break
        place = place[step]
    else:
        place[data.draw(st.sampled_from(list(place)))] = data.draw(json_values)
    try:
        state = read_tfstate(json.dumps(document).encode(), "x")
    except UsageError:
        return
    for one in state.images:
        assert one.id
        assert one.server_id
        assert one.suggestion
        assert "huaweicloud_workspace_app_image.a" in one.address


@pytest.mark.parametrize(
    "module",
    ['module.x }\nresource "evil" "x" {', "module.a b", "a.b", "module.", 'module.a["x', "module.a.data.b", "."],
)
def test_an_address_is_one_or_the_state_is_refused(module: str) -> None:
    # Addresses stand in blocks and commands that somebody is to run.
    with pytest.raises(UsageError, match=r"resources\[0\] is no resource as Terraform writes one"):
        read(tfstate(resource("office", image("i1", "s1"), module=module)))
