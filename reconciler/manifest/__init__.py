"""Reads desired state: manifest files to one checked `Manifest`, or every problem of all of them.

    paths    finds and reads files, and refuses what is not a plain file of text
    reader   text to nodes with positions; the only module that knows PyYAML
    validation, schema, conformance, wording
             nodes against the published schema; the only place that knows jsonschema
    template, variables, rules, servers
             variables, defaults, and the API's own rules for names and descriptions
    load     all of it together: the way in

Nothing is imported here, so that a command that needs no manifest does not pay for one.
"""
