import platform

from grokking_core.runs import record
from grokking_core.runs.provenance import Provenance

COUNTS = {"read": 0, "trained": 0, "missing": 0}


def test_provenance_says_what_drew_beside_what_trained():
    told = Provenance.of([], COUNTS, [], seconds=0.0)
    python = platform.python_version()
    assert told.data["torch"] is None, "nothing was trained"
    assert told.data["drawn_with"] == record.versions() | {"python": python}
    names, values = zip(*told.lines(), strict=True)
    assert names[-1] == "drawn with"
    assert f"({record.source_hash()}), torch " in values[-1]
    assert values[-1].endswith(f"Python {python}")
