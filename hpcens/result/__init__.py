"""Write the result: durable segments, a journal, the finished file and what is made of it.

The formats of its files follow; those of the run directory are in `hpcens.runs`.

Result (`OUTPUT.h5`; while it grows `working-0001.h5`, and as an earlier phase's `phase-PHASE.h5`), format 1: plain
HDF5. Written by the reducers, or by `combine`; read by `verify`, `combine`, `export`, by a start that adds members, and
by any tool. Datasets are contiguous and allocated when the file is created; in a compressed result those of rows are
chunked.

| dataset | type | meaning |
| --- | --- | --- |
| `prediction`, `label`, `members/NAME`, … | (rows, …) | the outputs that the YAML asks for |
| `pass_entropy/NAME` | (rows, …) | beside `members/NAME` of a member with passes: their mean entropy |
| `row_number` | (rows,) int64 | with `output.keep`: numbers of the rows in what was scored, the best first |
| `valid` | (rows,) uint8 | with `bad_rows: mask`: 0 where a row could not be scored |
| `sure` | (rows,) uint8 | in a phase that completes a stage of a cascade: 1 where no later stage scores the row |
| `columns/NAME` | (rows, …) | values passed through from the dataset; attribute `checksum`: XXH3 of all of them |
| `classes` | (classes,) text | class names, where given |
| `hpcens/written` | (segments,) uint8 | 1: the segment's rows are durable |
| `hpcens/checksums` | (segments,) uint64 | XXH3 of the segment's bytes in all outputs, seeded with its number |
| `hpcens/summary` | (65536,) uint8 | JSON, blanks: `rows`, `finished`, `masked` (not of `combine`), `spot_checks` |
| `hpcens/plan`, `hpcens/config` | uint8 | the plan, and the configuration, as JSON; not in phases |

| attribute | type | meaning |
| --- | --- | --- |
| `hpcens`, `python`, `torch`, `numpy`, `h5py` | text | versions |
| `mpi` | text | the MPI library; empty for `combine` |
| `datasets` | [text] | paths of the input |
| `fingerprint` | JSON | see below; beside it phases have only `outputs` and `segment_rows` |
| `rule`, `space` | text | name of the rule, and what it combines: logits, probabilities or values |
| `task` | text | what the YAML says that outputs are: binary, multiclass, multilabel, regression; or empty |
| `rule_parameters`, `weights` | JSON | the fingerprint's branch of the rule, and of it the members' weights |
| `spaces`, `precision` | JSON | member → what it gives; member → its precision |
| `members` | JSON | member → `path` of its weights, and its digests |
| `member_names` | [text] | in member order |
| `passes` | JSON | where there are any: member → `count` and `seed` of its passes |
| `unsteady` | JSON | where there are any: member → `reproducible`: false; `alone`, `other_batch`: how far off |
| `warnings` | JSON | where there are any: [text], what looked wrong of members before they were scored |
| `combined_from` | JSON | `path` and digest of the `fingerprint` of the result that `combine` read |
| `calibration` | JSON | where there is one: its `path`, `digest`, and what `hpcens calibrate` wrote, but `made_of` |
| `keep` | JSON | where it holds only some rows: `top` or `above`, `by`, `what` in words, and `of` how many |
| `outputs` | [text] | datasets of rows, in the order in which they are checksummed |
| `segment_rows` | int | rows of a segment; the last one may have fewer |

Journal (`epochs/0001/journal`, of further reducers `journal-1`, …, of phases `phase-PHASE-journal`), format 1: binary,
little-endian. Written by the reducer; read by the next start, `verify`, and at the end for the summary. It takes effect
with its first record INHERITED, and ends where a record's checksum is wrong.

| bytes | type | meaning |
| --- | --- | --- |
| 0–16 | text | `hpcens journal 1` and a line feed: the format |
| 17–1023 | JSON | [number of the start, its random id, working file, segments, writers], padded with blanks |
| then, 40 a record: | | |
| 0 | uint8 | kind, see below |
| 1 | | unused |
| 2–3 | uint16 | member, an index in member order |
| 4–7 | uint32 | batch: a batch size, or a number of rows |
| 8–15 | uint64 | segment |
| 16–23 | uint64 | checksum |
| 24–31 | float64 | time, in seconds since 1970 |
| 32–35 | uint32 | CRC-32 of bytes 0–31 |
| 36–39 | | unused |

| kind | name | meaning |
| --- | --- | --- |
| 1 | WRITTEN | the segment is durable; `checksum` is that of its bytes |
| 2 | REDUCED | `member` ran the segment in batches of `batch`, for want of memory |
| 3 | REVOKED | the segment turned out damaged and is to be scored again |
| 4 | INHERITED | all records taken over are in: `segment` of them are segments |
| 5 | CLOSED | the writer ended in order and writes no more |
| 6 | MASKED_INPUT | `member` was fed NaN or infinity in `batch` rows; `checksum` is the index of the first |
| 7 | MASKED_OUTPUT | the same, for rows for which it gave NaN or infinity |
| 8 | MASKED_RAISED | the same, for rows on which its preprocessing raised |
| 9 | MASKED_CAST | the same, for rows that hold numbers which the dtype they are cast to cannot |
| 10 | KEPT | of a result that keeps few rows: `batch` candidates lie at `checksum` in the file of the writer `member` |

Fingerprint (`fingerprint.json`, and the attribute of results), format 1 or 2: a field that is added or absent is a
difference, and is refused. Written when the plan is made, or by `combine`; read by every later start, by whoever checks
whether a result is there already, and by `verify`. `format: 2` stands in it where one of the keys added by it does.

| branch | field | meaning |
| --- | --- | --- |
| `data` | `rows`, `columns` | rows to score; columns that are passed through |
| | `inputs` | name → dtype and shape of a row, as text |
| | `files` | number → `rows`, `bytes`, `modified`, `sampled rows` (digest), `source N` (files it takes rows from), |
| | | and `selected` (digest), where rows are selected |
| `members` | name → | `source`, and digests of files, code and preprocessing |
| | `output` | logits, probabilities or values |
| | `numerics` | `batch`, `runtime`, `precision` |
| `rule` | `name`, `space`, `weights`, `trim`, `digests` | of the rule, and of code and weights of the user's own |
| `outputs` | `datasets`, `dtype`, `classes`, `bad_rows` | what the result holds |
| `numerics` | `segment_rows`, `kinds`, `torch` | what fixes the bytes beside the members' own |

Added keys (`FORMAT_2`), format 2: left out of a fingerprint while they mean what results of format 1 meant, so that
those are continued; `*` is any name, `[]` any number.

| place | meaning; left out at |
| --- | --- |
| `members.*.resize of preprocess[]` | `mode` and `antialias` of a resize; bilinear without antialias |
| `data.files.*.decode *` | how packed numbers of an input are unpacked; if they are not |
| `members.*.bad_rows` | whether NaN and infinity in its inputs are its own to handle; if not |
| `members.*.gradients` | whether it takes gradients in its forward; if not |
| `members.*.passes` | `count` and `seed` of its passes; where it is run once, without dropout |
| `members.*.views[]` | a view in which it sees each row; where it has none |
| `members.*.space of views` | in which the mean over them is taken; where it has none |
| `members.*.code of views*` | digest of the code of a view, or of what undoes it; where it has none |
| `members.*.rows` | how many rows it scores, and a digest of which; all |
| `members.*.features *` | digests of its featuriser, those of a member; where it is called with the dataset's inputs |
| `members.*.file *` | digest of a further file that its code opens; where it names none |
| `members.*.key of weights` | which state dict of a checkpoint is taken; where none is named |
| `members.*.prefix of weights` | what its keys begin with; where none is named |
| `members.*.state` | digest of the weights that its factory loads; where it loads none |
| `members.*.complex numbers` | kept, where it has such parameters or buffers: format 1 kept their real parts alone |
| `members.*.imports *` | digest of a module that its code imports, its own aside; where there is none, or empty |
| `numerics.libraries` | library → version, of those that decide what GPUs compute, and `driver`; where none did |
| `members.*.numerics.group` | name of the group of equal members in which it ran as one; where it ran by itself |
| `members.*.library *` | version of a library that its code imports, but what torch requires; where there is none |
| `rule.digests.precision` | of a stack's module; float32 |
| `rule.digests.imports *` | digest of a module that a rule's code imports; where there is none, or empty |
| `rule.digests.library *` | version of a library that a rule's code imports; where there is none |
| `members.*.class_axis` | axis of its classes, and where another that of the ensemble; the last |
| `members.*.task` | binary or multilabel; multiclass and regression, which `output` tells apart |
| `rule.normalize` | whether rows of probabilities are divided by their sum; if not |
| `outputs.keep` | which rows the result keeps; where it keeps all |
| `rule.calibration` | `temperature`, `coverage` and `digest` of a calibration; where there is none |
| `rule.cascade` | its stages: the members of each, and what it accepts a row by; where there is none |
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcens.result.assembly import begin_assembly as begin_assembly
    from hpcens.result.calibrated import calibrated_of as calibrated_of
    from hpcens.result.calibrated import require_fitting as require_fitting
    from hpcens.result.decision import Decision as Decision
    from hpcens.result.decision import decision_of as decision_of
    from hpcens.result.decision import refuse_phases as refuse_phases
    from hpcens.result.decision import require_room_for_parts as require_room_for_parts
    from hpcens.result.description import describe_result as describe_result
    from hpcens.result.description import members_of as members_of
    from hpcens.result.description import unsteady_of as unsteady_of
    from hpcens.result.destination import check_output as check_output
    from hpcens.result.destination import require_room as require_room
    from hpcens.result.destination import room as room
    from hpcens.result.destination import room_for_assembly as room_for_assembly
    from hpcens.result.disk import SPEED_BYTES as SPEED_BYTES
    from hpcens.result.disk import Disk as Disk
    from hpcens.result.disk import sync_seconds as sync_seconds
    from hpcens.result.disk import writing_speed as writing_speed
    from hpcens.result.earlier import begins_anew as begins_anew
    from hpcens.result.earlier import begun_tree as begun_tree
    from hpcens.result.earlier import earlier_tree as earlier_tree
    from hpcens.result.earlier import is_finished as is_finished
    from hpcens.result.earlier import require_same_axis as require_same_axis
    from hpcens.result.earlier import stored_members as stored_members
    from hpcens.result.fingerprint import in_format as in_format
    from hpcens.result.fingerprint import is_whole as is_whole
    from hpcens.result.fingerprint import keeps_classes as keeps_classes
    from hpcens.result.fingerprint import made_of_but_data as made_of_but_data
    from hpcens.result.fingerprint import make_fingerprint as make_fingerprint
    from hpcens.result.fingerprint import numerics_of as numerics_of
    from hpcens.result.fingerprint import outputs_branch as outputs_branch
    from hpcens.result.fingerprint import rounded_members as rounded_members
    from hpcens.result.fingerprint import rule_branch as rule_branch
    from hpcens.result.fingerprint import torch_version as torch_version
    from hpcens.result.finished import Finished as Finished
    from hpcens.result.finished import fingerprint_of as fingerprint_of
    from hpcens.result.form import Form as Form
    from hpcens.result.journal import Record as Record
    from hpcens.result.keeping import keeping_of as keeping_of
    from hpcens.result.mismatch import differences as differences
    from hpcens.result.mismatch import require_same as require_same
    from hpcens.result.outputs import PASS_ENTROPY as PASS_ENTROPY
    from hpcens.result.outputs import PRESENT as PRESENT
    from hpcens.result.outputs import VALID as VALID
    from hpcens.result.outputs import Output as Output
    from hpcens.result.outputs import encoded as encoded
    from hpcens.result.outputs import outputs_of as outputs_of
    from hpcens.result.outputs import pass_entropies as pass_entropies
    from hpcens.result.parts import Part as Part
    from hpcens.result.result import Result as Result
    from hpcens.result.result import reopen as reopen
    from hpcens.result.result import standing as standing
    from hpcens.result.scored import scored_form as scored_form
    from hpcens.result.stored_array import StoredArray as StoredArray
    from hpcens.result.verify import Verification as Verification
else:
    # loaded by the first who asks for them: what imports much is not needed everywhere
    _NAMES = {
        "assembly": ("begin_assembly",),
        "decision": ("Decision", "decision_of", "refuse_phases", "require_room_for_parts"),
        "calibrated": ("calibrated_of", "require_fitting"),
        "description": ("describe_result", "members_of", "unsteady_of"),
        "destination": ("check_output", "require_room", "room", "room_for_assembly"),
        "disk": ("Disk", "SPEED_BYTES", "sync_seconds", "writing_speed"),
        "earlier": ("begins_anew", "begun_tree", "earlier_tree", "is_finished", "require_same_axis", "stored_members"),
        "fingerprint": (
            "in_format",
            "is_whole",
            "keeps_classes",
            "made_of_but_data",
            "make_fingerprint",
            "numerics_of",
            "outputs_branch",
            "rounded_members",
            "rule_branch",
            "torch_version",
        ),
        "finished": ("Finished", "fingerprint_of"),
        "form": ("Form",),
        "journal": ("Record",),
        "keeping": ("keeping_of",),
        "mismatch": ("differences", "require_same"),
        "parts": ("Part",),
        "outputs": ("Output", "PASS_ENTROPY", "PRESENT", "VALID", "encoded", "outputs_of", "pass_entropies"),
        "result": ("Result", "reopen", "standing"),
        "scored": ("scored_form",),
        "stored_array": ("StoredArray",),
        "verify": ("Verification",),
    }

    def __getattr__(name):
        for module, names in _NAMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
