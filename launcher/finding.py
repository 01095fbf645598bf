"""What `plan`, `doctor` or the guard has to say: a stable code, a severity, evidence, a remedy and a source."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass


class Severity(enum.StrEnum):
    """How much a finding matters."""

    INFO = "info"
    """Worth knowing; nothing to do."""
    WARNING = "warning"
    """The run starts, but its result may not be what the user thinks."""
    ERROR = "error"
    """The run is not started."""


@dataclass(frozen=True)
class Finding:
    """One thing to say about a spec, a dataset, a machine or a run.

    `code` is stable: scripts may rely on it. `evidence` is what was seen here, `source` where the claim comes from.
    An error whose code ends in `.no-credentials` or `.no-quota` is one of access, with the exit code of that.
    """

    code: str
    severity: Severity
    message: str
    evidence: str = ""
    remedy: str = ""
    source: str = ""

    @property
    def is_access(self) -> bool:
        """Whether it says that the account lacks something, not that the spec is wrong."""
        return self.code.rpartition(".")[2] in ("no-credentials", "no-quota")

    def as_json(self) -> dict[str, str]:
        """Plain values, for `--json` and run.json."""
        return {key: str(value) for key, value in asdict(self).items()}
