"""The registry of models, in plain files under the home.

    models/<name>/versions/0001/record.json   what this version is; never changed once it stands
    models/<name>/versions/0001/…             the hash of record.json; the rest of a run's folder, the model's
                                              weights among it, and the manifest of its data: enough when the
                                              run is gone
    models/<name>/predictions/0001/…          what is kept of the images that were predicted with it
    models/<name>/state.json                  who is champion, and every change that made it so
    models/<name>/changes/0001-promote.md     what a person reads of a change
    models/<name>/changes/0001-promote.json   the change once more, should state.json be lost

A version appears when its folder takes its name, a change when state.json is replaced; each is one step of
the file system, so a process killed at any moment leaves the old state or the new one. Processes that change
one model wait for each other, for as long as it takes to write these two small files.
"""

from __future__ import annotations

from histoflow.models._changing import hold, promote, reject, rollback
from histoflow.models._finding import Line, champion, find, find_line, listing
from histoflow.models._registering import refuse_bad_name, register
from histoflow.models._restoring import restore
from histoflow.models._state import Change, Stage
from histoflow.models._versions import Figure, Version, VersionRecord, verify

__all__ = [
    "Change",
    "Figure",
    "Line",
    "Stage",
    "Version",
    "VersionRecord",
    "champion",
    "find",
    "find_line",
    "hold",
    "listing",
    "promote",
    "refuse_bad_name",
    "register",
    "reject",
    "restore",
    "rollback",
    "verify",
]
