"""Run folders: what a run writes and reads, how its folder is made and found, and how a run is resumed."""

from fedpolyp.runs.folder import OlderRun, RunFolder
from fedpolyp.runs.making import DEFAULT_ROOT, create, find, new_name, refuse_as_output, refuse_in_run, refuse_taken
from fedpolyp.runs.model_given import model_given
from fedpolyp.runs.provenance import environment
from fedpolyp.runs.round_record import RoundRecord
from fedpolyp.runs.scored_images import ScoredImage, ScoredSet, model_name, scored_images

__all__ = [
    "DEFAULT_ROOT",
    "OlderRun",
    "RoundRecord",
    "RunFolder",
    "ScoredImage",
    "ScoredSet",
    "create",
    "environment",
    "find",
    "model_given",
    "model_name",
    "new_name",
    "refuse_as_output",
    "refuse_in_run",
    "refuse_taken",
    "scored_images",
]
