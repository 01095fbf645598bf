"""Is the run that came back the same experiment?

    from launcher.parity import compare
    said = compare("runs/detect/train2", "baseline", margin=0.02)
    said.verdict, said.layer, said.reason, said.differences, said.as_json()

Importing this imports neither torch, Ultralytics, numpy nor scipy.
"""

from launcher.parity.compare import compare
from launcher.parity.model import Difference, Kind, Layer, LayerResult, Parity, Verdict

__all__ = ["Difference", "Kind", "Layer", "LayerResult", "Parity", "Verdict", "compare"]
