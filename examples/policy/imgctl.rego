# A policy for plans, for conftest or OPA:
#
#   imgctl plan --format json=plan.json
#   conftest test --policy examples/policy --data review.json plan.json
#
# review.json is what the plan cannot know, written by the workflow and not by the pull request:
#
#   {"review": {"labels": ["patch-window"], "project_id": "a4da8115c9d8464ead3a38309130523f"}}
#
# Written to fail closed: in Rego a rule on something that is missing says nothing, so a plan that lacks any of what is
# asked about here is denied as no plan.
package main

import rego.v1

# Beyond so many builds a plan is to be cut into rings: -l ring=canary.
max_rebuilds := 60

# Files of rings whose users notice: somebody says that the canaries were in use for a while.
protected_files := {"ring-broad.yaml"}

actions := {"resume", "move", "forget", "rebuild", "build", "update", "prune", "refresh"}

counts := actions | {"unavailable", "gated", "unchanged"}

is_plan if {
	startswith(input.format_version, "1.")
	is_boolean(input.simulated)
	is_boolean(input.refreshed)
	is_string(input.bound_to.provider)
	is_string(input.bound_to.project_id)
	is_array(input.changes)
	is_array(input.overrides)
	is_array(input.diagnostics)
	every count in counts {
		is_number(input.summary[count])
	}
	every change in input.changes {
		is_string(change.name)
		change.action in actions
	}
}

labels := {label | some label in data.review.labels}

deny contains "this is no plan of imgctl that this policy knows" if not is_plan

deny contains "the simulator's plan is of no use: it builds nothing" if input.simulated

deny contains "the cloud was not asked (--no-refresh): nobody knows what it has" if not input.refreshed

deny contains sprintf("the plan is for project %s, and this workflow for another one", [input.bound_to.project_id]) if {
	not input.bound_to.project_id == data.review.project_id
}

deny contains sprintf("%d builds at once: no more than %d, cut it into rings", [builds, max_rebuilds]) if {
	builds := input.summary.build + input.summary.rebuild
	builds > max_rebuilds
}

deny contains sprintf("an image of %s would be deleted outside of the patch window (label patch-window)", [change.name]) if {
	some change in input.changes
	change.action == "prune"
	not "patch-window" in labels
}

deny contains sprintf("%s is in a protected ring: rebuilt once the canaries have been in use (label canaries-good)", [change.name]) if {
	some change in input.changes
	change.action in {"build", "rebuild", "prune", "forget"}
	in_protected_file(change)
	not "canaries-good" in labels
}

# What is no longer declared has no file any more, and so might have been in any.
in_protected_file(change) if not change.origin.file

in_protected_file(change) if {
	some file in protected_files
	endswith(change.origin.file, file)
}

deny contains sprintf("%s is set from outside the manifest (%s): merging does not set it", [one.name, one.source]) if {
	some one in input.overrides
}

# Guards that were loosened, somebody else's images, an empty manifest: a person says that it was seen.
deny contains sprintf("%s (label cautions-seen)", [one.summary]) if {
	some one in input.diagnostics
	one.severity == "caution"
	not "cautions-seen" in labels
}

warn contains sprintf("%s is gated: %s", [change.name, change.gated]) if {
	some change in input.changes
	is_string(change.gated)
}
