"""What the probe answers on a sound machine and on every broken one, for the suite's own spec."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from launcher.parity.probing import make, plan_of
from launcher.runs import create
from tests.parity.planted.making.lab import Lab, forked
from tests.parity.planted.making.recipes import REFERENCE, recipes
from tests.parity.probing import planted


def records(lab: Lab) -> dict[str, Any]:
    """probe.json by the name of the fault; `again` is the sound machine. Made when it is first asked for."""
    out = lab.folder / "probes.json"
    if not out.is_file():
        recipe = recipes()[REFERENCE]
        data = lab.data(recipe.data)
        bundle = create.pack_bundle(lab.settings, lab.spec(recipe), data)
        made = make(lab.settings, bundle, data)
        plan = plan_of(lab.settings, made, required=True, on_different="stop")
        box = lab.lay("probe", bundle, data)
        for path, file in plan["files"].items():
            target = Path(box.inbox, path)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file["source"], target)
        attempt = Path(box.inbox, "attempt.json")
        held = json.loads(attempt.read_text())
        held["files"].pop("job.json")  # the faults change it
        sent = {path: file["sha256"] for path, file in plan["files"].items()}
        attempt.write_text(json.dumps({**held, "probe": {**plan, "files": sent}}))
        log = lab.folder / "probes.log"
        assert forked(lambda: planted.main(box.root, str(out)), log) == 0, log.read_text()[-2000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return found


if __name__ == "__main__":
    made = Lab(Path(sys.argv[1]).resolve())
    made.prepare()
    print({name: value.get("error", "made") for name, value in records(made).items()})
